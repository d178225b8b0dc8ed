"""Groups of users, as an application uses them, and from Python."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pysync.db.sessions import portal_session
from pysync.errors import InUseError, InvalidValueError, NotFoundError
from pysync.models.portal import User
from pysync.students import groups
from tests.integration.fan_out import App, await_lock
from tests.integration.test_accounts import (
    IN_USE,
    REFUSED,
    SERIALIZATION,
    UNKNOWN,
    fails,
    in_background,
    sqlstate,
)

pytestmark = pytest.mark.oldest_and_newest(
    "SQL on ordinary tables: what the oldest and the newest agree on, those between do as well"
)

MEMBERS = "select username from student.group_members(%s)"
DEFAULTS = {
    "email_future_courses",
    "email_helpers",
    "mitx_unenroll",
    "6002x_unenroll",
}


def test_users_come_and_go(student_app: App) -> None:
    app = student_app
    for name in ("bob", "ada"):
        app.user(name)
    app.execute("select student.create_group('friends', 'of the house')")
    for name in ("bob", "ada", "ada"):
        app.execute("select student.add_user_to_group(%s, 'friends')", name)
    assert app.execute(MEMBERS, "friends") == [("ada",), ("bob",)]
    for _ in range(2):
        app.execute("select student.remove_user_from_group('bob', 'friends')")
    assert app.execute(MEMBERS, "friends") == [("ada",)]
    app.execute("select student.describe_group('friends', 'of old')")
    assert app.execute("select * from student.list_groups()") == [("friends", "of old", 1)]


@pytest.mark.newest("texts of our own")
@pytest.mark.parametrize(
    "call",
    [
        "add_user_to_group('ada', 'nobody')",
        "add_user_to_group('nobody', 'friends')",
        "remove_user_from_group('ada', 'nobody')",
        "remove_user_from_group('nobody', 'friends')",
        "add_user_to_default_group('ada', 'nobody')",
        "add_user_to_default_group('nobody', 'email_helpers')",
        "describe_group('nobody', '')",
        "group_members('nobody')",
    ],
)
def test_names_that_do_not_exist_are_clear_errors(student_app: App, call: str) -> None:
    assert fails(student_app, f"select student.{call}") == UNKNOWN, "where there is nothing yet"
    student_app.user("ada")
    student_app.execute("select student.create_group('friends')")
    assert fails(student_app, f"select student.{call}") == UNKNOWN
    assert student_app.execute("select name from student_usertestgroup") == [("friends",)]


def test_a_name_is_unique_and_has_1_to_32_characters(student_app: App) -> None:
    app = student_app
    create = "select student.create_group(%s)"
    for name in ("", None, "x" * 33):
        assert fails(app, create, name) == REFUSED
    app.execute(create, "x" * 32)
    assert fails(app, create, "x" * 32) == IN_USE
    assert fails(app, "insert into student_usertestgroup (name) values ('')") == "23514"


def test_default_groups_are_created_on_first_use(student_app: App) -> None:
    app = student_app
    app.user("ada")
    app.execute("select student.create_group('friends')")
    assert {row[0] for row in app.execute("select group_name from student.default_groups()")} == (
        DEFAULTS
    )
    for name in ("friends", "email_helpers", "email_helpers"):
        app.execute("select student.add_user_to_default_group('ada', %s)", name)
    assert app.execute("select * from student.list_groups()") == [
        ("email_helpers", "Receive e-mails about how to help with MITx", 1),
        ("friends", "", 1),
    ]


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_two_sessions_that_use_a_default_group_first_share_it(student_app: App, level: str) -> None:
    app = student_app
    app.user("ada")
    app.user("bob")
    first, second = app.connect(), app.connect()
    for connection in (first, second):
        connection.autocommit = False
        connection.execute(f"set transaction isolation level {level}")
        connection.execute("select from auth_user")
    add = "select student.add_user_to_default_group(%s, 'email_helpers')"
    first.execute(add, ("ada",))
    with ThreadPoolExecutor() as pool:
        other = in_background(pool, (second,), (add, "bob"))
        await_lock(app.site, second.info.backend_pid)
        first.commit()
        if level == "repeatable read":
            assert sqlstate(lambda: other.result(timeout=20)) == SERIALIZATION
            second.rollback()
            app.execute(add, "bob")
        else:
            other.result(timeout=20)
    assert app.execute(MEMBERS, "email_helpers") == [("ada",), ("bob",)]
    assert app.one("select count(*) from student_usertestgroup") == 1


@pytest.mark.newest("Python's part, on SQL that is tested beside it")
def test_python_says_the_same(student_app: App) -> None:
    app = student_app
    ada = app.user("ada")
    with portal_session(app.site.portal) as session:
        assert set(groups.default_groups(session)) == DEFAULTS
        groups.create_group(session, "friends", "of the house")
        groups.add_user_to_group(session, "ada", "friends")
        groups.add_user_to_default_group(session, "ada", "email_helpers")
        groups.describe_group(session, "friends", "of old")
        assert groups.list_groups(session)[1] == ("friends", "of old", 1)
        assert groups.group_members(session, "friends") == [(ada, "ada", "ada@example.org")]
        session.add(User(username="bob", password=""))
        groups.add_user_to_group(session, "bob", "friends")
        groups.remove_user_from_group(session, "bob", "friends")
        groups.remove_user_from_group(session, "ada", "friends")
        assert groups.group_members(session, "friends") == []
    for error, call in (
        (NotFoundError, lambda s: groups.group_members(s, "nobody")),
        (InUseError, lambda s: groups.create_group(s, "friends")),
        (InvalidValueError, lambda s: groups.create_group(s, "")),
    ):
        with pytest.raises(error) as caught, portal_session(app.site.portal) as session:
            call(session)
        assert caught.value.remedy
