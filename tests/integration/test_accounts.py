"""Accounts, as an application uses them: keys, and changes that wait for an approval."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.integration.fan_out import App, await_lock, differences

pytestmark = pytest.mark.oldest_and_newest(
    "SQL on ordinary tables: what the oldest and the newest agree on, those between do as well"
)

UNKNOWN, REFUSED, IN_USE, SERIALIZATION = "PY010", "PY011", "PY012", "40001"


def sqlstate(call: Callable[[], Any]) -> str | None:
    with pytest.raises(psycopg.Error) as caught:
        call()
    return caught.value.sqlstate


def fails(app: App, query: str, *arguments: Any) -> str | None:
    return sqlstate(lambda: app.execute(query, *arguments))


def test_a_key_activates_an_account_as_often_as_it_is_shown(student_app: App) -> None:
    app = student_app
    ada, bob = app.user("ada", is_active=False), app.user("bob", is_active=False)
    key = app.one("select student.register(%s)", ada)
    app.execute("select student.register(%s)", bob)
    assert app.execute("select user_id from auth_registration where activation_key = %s", key) == [
        (ada,)
    ]
    active = "select username from auth_user where is_active order by 1"
    assert app.execute(active) == [], "the key isn't shown yet"
    for _ in range(2):
        assert app.one("select student.activate(%s)", key) == ada
        assert app.execute(active) == [("ada",)]


def test_a_key_that_nobody_has_is_an_error_and_a_second_key_too(student_app: App) -> None:
    app = student_app
    ada = app.user("ada")
    key = app.one("select student.register(%s)", ada)
    assert fails(app, "select student.activate(%s)", key[:-1]) == UNKNOWN
    assert fails(app, "select student.activate(null)") == UNKNOWN
    assert fails(app, "select student.register(%s)", ada) == IN_USE
    assert fails(app, "select student.register(%s)", ada + 1) == UNKNOWN
    assert fails(app, "select student.register(null)") == UNKNOWN


def test_every_digit_of_a_key_is_random(student_app: App) -> None:
    keys = [
        row[0]
        for row in student_app.execute("select student.new_key() from generate_series(1, 1000)")
    ]
    assert len(set(keys)) == 1000
    digits = set("0123456789abcdef")
    # 1000 draws miss one of 16 digits at one of 32 places once in 10^25 runs.
    assert [set(place) for place in zip(*keys, strict=True)] == [digits] * 32


def test_a_name_waits_for_approval_and_then_reaches_the_courses(student_app: App) -> None:
    app, site = student_app, student_app.site
    site.register_only("A")
    ada = app.user("ada")
    app.profile(ada, name="Ada")
    app.enroll(ada, "A")
    app.execute("select student.request_name_change(%s, 'Ada B.')", ada)
    app.execute("select student.request_name_change(%s, 'Ada L.', 'married')", ada)
    pending = "select user_id, new_name, rationale from student_pendingnamechange"
    assert app.execute(pending) == [(ada, "Ada L.", "married")]
    assert app.one("select name from auth_userprofile") == "Ada"
    assert app.one("select student.approve_name_change(%s)", ada) == "Ada L."
    assert app.execute(pending) == []
    assert site.execute("select name from course.auth_userprofile") == [("Ada L.",)]
    assert differences(site) == []
    assert fails(app, "select student.approve_name_change(%s)", ada) == UNKNOWN
    app.execute("select student.request_name_change(%s, 'Countess')", ada)
    app.execute("select student.reject_name_change(%s)", ada)
    assert fails(app, "select student.reject_name_change(%s)", ada) == UNKNOWN
    assert app.one("select name from auth_userprofile") == "Ada L."


def test_a_name_without_a_profile_stays_pending(student_app: App) -> None:
    app = student_app
    ada = app.user("ada")
    app.execute("select student.request_name_change(%s, 'Ada')", ada)
    assert fails(app, "select student.approve_name_change(%s)", ada) == UNKNOWN
    assert app.one("select count(*) from student_pendingnamechange") == 1
    assert fails(app, "select student.request_name_change(%s, 'Eve')", ada + 1) == UNKNOWN


@pytest.mark.parametrize(
    ("name", "rationale"),
    [("", ""), (" \t\n", ""), (None, ""), ("x" * 256, ""), ("Ada", "x" * 1025)],
    ids=["empty", "blank", "null", "long name", "long rationale"],
)
def test_a_text_that_does_not_fit_is_refused(
    student_app: App, name: str | None, rationale: str
) -> None:
    ada = student_app.user("ada")
    call = "select student.request_name_change(%s, %s, %s)"
    assert fails(student_app, call, ada, name, rationale) == REFUSED
    student_app.execute(call, ada, "x" * 255, "x" * 1024)


def test_an_address_waits_for_its_key_and_then_reaches_the_courses(student_app: App) -> None:
    app, site = student_app, student_app.site
    site.register_only("A")
    ada = app.user("ada")
    app.enroll(ada, "A")
    old_key = app.one("select student.request_email_change(%s, 'first@example.org')", ada)
    key = app.one("select student.request_email_change(%s, 'second@example.org')", ada)
    assert app.execute("select user_id, new_email from student_pendingemailchange") == [
        (ada, "second@example.org")
    ]
    assert fails(app, "select student.approve_email_change(%s)", old_key) == UNKNOWN
    assert app.one("select student.approve_email_change(%s)", key) == ada
    assert app.execute("select email from auth_user") == [("second@example.org",)]
    assert site.execute("select email from course.auth_user") == [("second@example.org",)]
    assert fails(app, "select student.approve_email_change(%s)", key) == UNKNOWN
    app.execute("select student.request_email_change(%s, 'third@example.org')", ada)
    app.execute("select student.reject_email_change(%s)", ada)
    assert fails(app, "select student.reject_email_change(%s)", ada) == UNKNOWN
    assert app.execute("select email from auth_user") == [("second@example.org",)]


def test_an_address_in_use_is_refused_also_when_it_was_free_once(student_app: App) -> None:
    app = student_app
    ada, bob = app.user("ada", email="ada@example.org"), app.user("bob")
    request = "select student.request_email_change(%s, %s)"
    assert fails(app, request, bob, "ADA@example.org") == IN_USE
    app.execute(request, ada, "Ada@Example.org")
    key = app.one(request, bob, "free@example.org")
    app.execute("update auth_user set email = 'Free@example.org' where id = %s", ada)
    assert fails(app, "select student.approve_email_change(%s)", key) == IN_USE
    app.execute("update auth_user set email = '' where id = %s", ada)
    assert app.one("select student.approve_email_change(%s)", key) == bob


@pytest.mark.parametrize(
    "address",
    ["", None, "ada", "@example.org", "ada@", "a da@example.org", "a@b@c", "x" * 250 + "@x.yz"],
)
def test_what_is_no_address_is_refused(student_app: App, address: str | None) -> None:
    ada = student_app.user("ada")
    request = "select student.request_email_change(%s, %s)"
    assert fails(student_app, request, ada, address) == REFUSED
    assert fails(student_app, request, ada + 1, "ada@example.org") == UNKNOWN


def in_background(pool: ThreadPoolExecutor, *statements: tuple[Any, ...]) -> Future[None]:
    connection, *rest = statements

    def run() -> None:
        for query, *arguments in rest:
            connection[0].execute(query, arguments)
        connection[0].commit()

    return pool.submit(run)


@pytest.mark.parametrize(
    ("level", "error"),
    [
        ("read committed", IN_USE),
        ("repeatable read", SERIALIZATION),
        ("serializable", SERIALIZATION),
    ],
)
def test_of_two_who_are_given_one_address_only_the_first_gets_it(
    student_app: App, level: str, error: str
) -> None:
    app = student_app
    keys = [
        app.one("select student.request_email_change(%s, %s)", app.user(name), address)
        for name, address in (("ada", "one@example.org"), ("bob", "One@example.org"))
    ]
    first, second = app.connect(), app.connect()
    for connection in (first, second):
        connection.autocommit = False
        connection.execute(f"set transaction isolation level {level}")
        connection.execute("select from auth_user")
    approve = "select student.approve_email_change(%s)"
    first.execute(approve, (keys[0],))
    with ThreadPoolExecutor() as pool:
        other = in_background(pool, (second,), (approve, keys[1]))
        await_lock(app.site, second.info.backend_pid)
        first.commit()
        with pytest.raises(psycopg.Error) as caught:
            other.result(timeout=20)
    assert caught.value.sqlstate == error
    second.rollback()
    assert fails(app, approve, keys[1]) == IN_USE
    assert app.one("select array_agg(email order by id) from auth_user") == [
        "one@example.org",
        "bob@example.org",
    ]


@pytest.mark.parametrize(
    ("level", "error"), [("read committed", IN_USE), ("serializable", SERIALIZATION)]
)
def test_asking_and_approving_in_one_transaction_wait_for_each_other_too(
    student_app: App, level: str, error: str
) -> None:
    app = student_app
    users = [app.user("ada"), app.user("bob")]
    first, second = app.connect(), app.connect()
    for connection in (first, second):
        connection.autocommit = False
        connection.execute(f"set transaction isolation level {level}")
        connection.execute("select from auth_user")
    at_once = (
        "select student.approve_email_change(student.request_email_change(%s, 'one@example.org'))"
    )
    first.execute(at_once, (users[0],))
    with ThreadPoolExecutor() as pool:
        other = in_background(pool, (second,), (at_once, users[1]))
        await_lock(app.site, second.info.backend_pid)
        first.commit()
        assert sqlstate(lambda: other.result(timeout=20)) == error


def test_deleting_a_user_takes_everything_of_the_account_along(student_app: App) -> None:
    app = student_app
    for name in ("ada", "bob"):
        user = app.user(name)
        app.profile(user)
        app.enroll(user, "A")
        app.execute("select student.register(%s)", user)
        app.execute("select student.request_name_change(%s, 'New')", user)
        app.execute("select student.request_email_change(%s, 'new@example.org')", user)
        app.execute("select student.add_user_to_default_group(%s, 'email_helpers')", name)
    app.execute("delete from auth_user where username = 'ada'")
    for table in (
        "auth_userprofile",
        "student_courseenrollment",
        "auth_registration",
        "student_pendingnamechange",
        "student_pendingemailchange",
        "student_usertestgroup_users",
        "django_comment_client_role_users",
    ):
        assert app.execute(f"select user_id from {table}") == [(user,)], table
    app.execute("delete from student_usertestgroup")
    assert app.one("select count(*) from student_usertestgroup_users") == 0


def test_functions_lend_no_rights(app: App) -> None:
    """They run with the rights of whoever calls them."""
    app.site.execute(f"grant usage on schema student to {app.role}")
    app.site.execute(f"grant execute on all functions in schema student to {app.role}")
    ada = app.user("ada")
    for query in (
        f"select student.register({ada})",
        f"select student.request_name_change({ada}, 'Ada')",
        f"select student.request_email_change({ada}, 'ada@example.org')",
        "select student.create_group('friends')",
        f"select course.give_roles(array[{ada}], array['A'])",
    ):
        assert fails(app, query) == "42501", query
