"""TRUNCATE ignores row filters: it is carried as deletes of each course's rows, or refused."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.fan_out import App, copy_of, differences, names
from tests.support import Site, assert_live_rows

pytestmark = pytest.mark.oldest_and_newest("what replication makes of TRUNCATE")

TRUNCATE_REFUSED = "PY003"


@pytest.mark.parametrize(
    "table", ["auth_user", "auth_userprofile", "student_courseenrollment", "mark"]
)
def test_truncate_of_a_fan_out_table_is_refused(site: Site, table: str) -> None:
    with pytest.raises(psycopg.Error, match=rf"TRUNCATE of course\.{table} refused") as refusal:
        site.execute(f"truncate course.{table}")
    assert refusal.value.sqlstate == TRUNCATE_REFUSED


def test_truncate_of_source_tables_reaches_each_course_as_deletes(own_app: App) -> None:
    app, site = own_app, own_app.site
    for course in "AB":
        site.add(course)
    ada, bob, old = app.user("ada"), app.user("bob"), app.user("old")
    for user, courses in ((ada, "AB"), (bob, "B"), (old, "A")):
        app.profile(user)
        app.enroll(user, *courses)
    app.unenroll(old, "A")
    app.execute("truncate auth_userprofile")
    site.wait()
    # The frozen copy keeps its profile, as after a DELETE.
    assert site.course("A").execute("select user_id from auth_userprofile").fetchall() == [(old,)]
    assert site.course("B").execute("select * from auth_userprofile").fetchall() == []
    app.execute("truncate student_courseenrollment")
    site.wait()
    for course, users in (("A", {ada, old}), ("B", {ada, bob})):
        with site.course(course) as database:
            assert database.execute("select * from student_courseenrollment").fetchall() == []
            copies = dict(database.execute("select id, username from auth_user").fetchall())
            assert copies.keys() == users
    # Everyone is frozen now, and replication goes on.
    app.execute("update auth_user set email = 'later@example.org'")
    app.enroll(bob, "A", "B")
    site.wait()
    for course in "AB":
        assert_live_rows(site, course)
    assert copy_of(site, ada, "A", "live, email") == (False, "ada@example.org")
    assert differences(site) == []


def test_ids_that_start_anew_after_truncate_meet_no_old_copy(app: App) -> None:
    site = app.site
    site.register_only("A")
    # The application's role doesn't own the sequences, so it says which ids.
    ada, bob = app.user("ada"), app.user("bob")
    app.profile(ada, id=1, name="ada's")
    app.enroll(ada, "A")
    app.unenroll(ada, "A")
    app.execute("truncate auth_userprofile, student_courseenrollment")
    app.profile(bob, id=1, name="bob's")
    app.execute(
        "insert into student_courseenrollment (id, user_id, course_id) overriding system value"
        " values (1, %s, 'A')",
        bob,
    )
    assert differences(site) == []


def test_truncate_of_users_is_refused_while_courses_hold_copies(app: App) -> None:
    site = app.site
    site.register_only("A")
    ada = app.user("ada")
    app.enroll(ada, "A")
    app.unenroll(ada, "A")
    with pytest.raises(psycopg.Error, match="TRUNCATE of auth_user refused") as refusal:
        app.execute("truncate auth_user cascade")
    assert refusal.value.sqlstate == TRUNCATE_REFUSED
    assert names(site, "A") == {ada: "ada"}
    assert app.one("select count(*) from auth_user") == 1


def test_truncate_of_users_is_free_where_no_course_holds_a_copy(app: App) -> None:
    app.site.register_only("A")
    app.profile(app.user("ada"))
    app.execute("truncate auth_user cascade")
    assert app.one("select count(*) from auth_userprofile") == 0
    app.enroll(app.user("ada"), "A")
    assert differences(app.site) == []


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize(
    ("before", "meanwhile", "truncate"),
    [
        (
            "",
            "insert into student_courseenrollment (user_id, course_id) values (1, 'A')",
            "student_courseenrollment",
        ),
        (
            "insert into student_courseenrollment (user_id, course_id) values (1, 'A')",
            "insert into auth_userprofile (user_id) values (1)",
            "auth_userprofile",
        ),
    ],
    ids=["enrollment", "profile"],
)
def test_truncate_with_a_snapshot_older_than_a_copy_leaves_none_behind(
    app: App, before: str, meanwhile: str, truncate: str, level: str
) -> None:
    site = app.site
    site.register_only("A")
    app.user("ada", id=1)
    if before:
        app.execute(before)
    old = app.connect()
    old.execute(f"begin isolation level {level}")
    old.execute("select 1")
    app.execute(meanwhile)
    try:
        old.execute(f"truncate {truncate}")
        old.execute("commit")
    except psycopg.Error as error:
        if error.sqlstate not in {"40001", TRUNCATE_REFUSED}:
            raise
        old.execute("rollback")
        old.execute(f"truncate {truncate}")
    assert differences(site) == []


@pytest.mark.parametrize(
    "level",
    [
        "read committed",
        "repeatable read",
    ],
)
def test_truncate_of_users_with_a_snapshot_older_than_a_copy_is_refused(
    app: App, level: str
) -> None:
    app.site.register_only("A")
    ada = app.user("ada")
    old = app.connect()
    old.execute(f"begin isolation level {level}")
    old.execute("select 1")
    app.enroll(ada, "A")
    with pytest.raises(psycopg.Error) as error:
        old.execute("truncate auth_user cascade")
    assert error.value.sqlstate in {TRUNCATE_REFUSED, "40001"}
    assert names(app.site, "A") == {ada: "ada"}
