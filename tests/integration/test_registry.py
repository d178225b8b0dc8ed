"""Courses enter and leave the registry between enrollments, never in the middle of one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pysync.db import transactions
from pysync.db.connections import Connection
from pysync.errors import LockedError
from pysync.replication import fan_out, registry
from pysync.replication.registry import Course
from pysync.types import CourseId
from tests.integration.fan_out import TABLES, App, await_lock, differences, names
from tests.support import assert_live_rows

pytestmark = pytest.mark.oldest_and_newest(
    "SQL on ordinary tables: what the oldest and the newest agree on, those between do as well"
)

ODD_IDS = (
    "MITx/6.002x/2012_Fall",
    """quote ' double " semicolon ; dollar $$ percent %s backslash \\ brace {0}""",
    "Größe 数学 🎓",
    " spaces around ",
    "x" * 255,
)


@pytest.fixture
def portal(app: App) -> Iterator[Connection]:
    with registry.connect_portal(app.site.portal) as connection:
        yield connection


def course(course_id: str) -> Course:
    return Course(CourseId(course_id), f"unused_{course_id}"[:63], "", "", "")


@pytest.mark.parametrize("course_id", ["default", ""])
def test_the_registry_itself_refuses_what_is_not_a_course(app: App, course_id: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        app.site.register_only(course_id)


def test_any_text_may_be_a_course_id(app: App, portal: Connection) -> None:
    site = app.site
    ada = app.user("ada")
    app.profile(ada)
    app.enroll(ada, ODD_IDS[0])
    for course_id in ODD_IDS:
        registry.register(portal, course(course_id))
        fan_out.backfill(portal, CourseId(course_id), lambda _: None)
    app.enroll(ada, *ODD_IDS[1:])
    app.execute("update auth_user set username = 'countess'")
    assert [names(site, course_id) for course_id in ODD_IDS] == [{ada: "countess"}] * len(ODD_IDS)
    assert differences(site) == []


@pytest.mark.every_major("row filters are the server's")
def test_odd_course_ids_replicate(own_app: App) -> None:
    app, site = own_app, own_app.site
    site.add(ODD_IDS[1])
    app.enroll(app.user("ada"), ODD_IDS[1])
    site.wait()
    assert_live_rows(site, ODD_IDS[1])


def test_a_course_that_no_longer_fans_out_gets_no_new_members(app: App, portal: Connection) -> None:
    site = app.site
    site.register_only("A", "B")
    ada = app.user("ada")
    fan_out.stop(portal, CourseId("A"))
    app.enroll(ada, "A", "B")
    assert names(site, "A") == {}
    assert names(site, "B") == {ada: "ada"}
    assert differences(site) == []


def test_unregistering_removes_all_rows_of_the_course_and_none_of_another(
    app: App, portal: Connection
) -> None:
    site = app.site
    site.register_only("B")
    registry.register(portal, course("A"))
    ada, bob = app.user("ada"), app.user("bob")
    for user in (ada, bob):
        app.profile(user)
        app.enroll(user, "A", "B")
    app.unenroll(bob, "A")
    fan_out.stop(portal, CourseId("A"))
    fan_out.clear(portal, CourseId("A"))
    registry.unregister(portal, CourseId("A"))
    for table in (*TABLES, "mark"):
        assert site.one(f"select count(*) from course.{table} where course_id = 'A'") == 0
    assert names(site, "B").keys() == {ada, bob}
    assert differences(site) == []
    # Registered again, it starts with those who are enrolled, and knows nobody from before.
    registry.register(portal, course("A"))
    fan_out.backfill(portal, CourseId("A"), lambda _: None)
    assert names(site, "A") == {ada: "ada"}
    assert differences(site) == []


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
@pytest.mark.parametrize(
    "statement",
    [
        "insert into auth_userprofile (user_id) values (1)",
        "update auth_userprofile set user_id = 1 where user_id = 2",
        "update auth_user set email = 'new@example.org' where id = 1",
        "insert into student_courseenrollment (user_id, course_id) values (1, 'B')",
    ],
)
def test_unregistering_leaves_no_row_of_a_transaction_under_way(
    app: App, portal: Connection, statement: str, level: str
) -> None:
    site = app.site
    site.register_only("A", "B")
    for number in (1, 2):
        app.user(f"user-{number}", id=number)
    app.enroll(1, "A")
    if statement.startswith("update auth_userprofile"):
        app.profile(2)
    under_way = app.connect()
    under_way.execute(f"begin isolation level {level}")
    under_way.execute(statement)
    with ThreadPoolExecutor(1) as pool:

        def unregister() -> None:
            fan_out.stop(portal, CourseId("A"))
            fan_out.clear(portal, CourseId("A"))
            registry.unregister(portal, CourseId("A"))

        future = pool.submit(unregister)
        while not future.done():
            if site.one("select cardinality(pg_blocking_pids(%s)) > 0", portal.info.backend_pid):
                break
        under_way.execute("commit")
        future.result(20)
    assert differences(site) == []


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize(
    "statement",
    [
        "update student_courseenrollment set created = null",
        "update auth_user set email = '' where id = 1",
        "insert into auth_userprofile (user_id) values (1)",
        "update auth_userprofile set user_id = 1",
        "delete from auth_user where id = 1",
    ],
)
def test_unregistering_meets_transactions_with_an_older_snapshot(
    app: App, portal: Connection, statement: str, level: str
) -> None:
    site = app.site
    site.register_only("A")
    for number in (1, 2):
        app.user(f"user-{number}", id=number)
    app.profile(2)
    app.enroll(1, "A")
    old = app.connect()
    old.execute(f"begin isolation level {level}")
    old.execute("select 1")
    fan_out.stop(portal, CourseId("A"))
    fan_out.clear(portal, CourseId("A"))
    registry.unregister(portal, CourseId("A"))
    with pytest.raises(psycopg.errors.SerializationFailure):
        old.execute(statement)
    old.execute("rollback")
    old.execute(statement)
    assert differences(site) == []


def test_registering_waits_for_enrollments_under_way(app: App, portal: Connection) -> None:
    site = app.site
    ada, bob = app.user("ada"), app.user("bob")
    under_way, later = app.connect(), app.connect()
    statement = "insert into student_courseenrollment (user_id, course_id) values (%s, 'A')"
    under_way.execute("begin")
    under_way.execute(statement, (ada,))
    with ThreadPoolExecutor(2) as pool:
        registering = pool.submit(registry.register, portal, course("A"))
        await_lock(site, portal.info.backend_pid)
        enrolling = pool.submit(later.execute, statement, (bob,))
        await_lock(site, later.info.backend_pid)
        under_way.execute("commit")
        registering.result(20)
        enrolling.result(20)
    assert names(site, "A") == {bob: "bob"}
    fan_out.backfill(portal, CourseId("A"), lambda _: None)
    assert names(site, "A") == {ada: "ada", bob: "bob"}
    assert differences(site) == []


def test_registering_gives_up_rather_than_block_applications_for_long(
    app: App, portal: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "TRIES", 2)
    monkeypatch.setattr(transactions, "PAUSE_SECONDS", 0.01)
    portal.execute("set lock_timeout = '20ms'")
    under_way = app.connect()
    under_way.execute("begin")
    under_way.execute(
        "insert into student_courseenrollment (user_id, course_id) values (%s, 'A')",
        (app.user("ada"),),
    )
    with pytest.raises(LockedError):
        registry.register(portal, course("A"))
    assert app.site.execute("select * from pysync.course") == []
    assert app.site.execute("select * from course.mark") == []
