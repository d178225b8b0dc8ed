"""Applications wait in plain SQL until a course has what they committed on the portal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from pysync.migrate import migrate
from pysync.migrate.lineage import COURSE
from pysync.replication import fan_out, publications, registry, subscriptions
from pysync.replication.registry import Course
from pysync.types import CourseId
from tests.integration.fan_out import App, application, role
from tests.support import Cluster, Site, assert_live_rows

pytestmark = pytest.mark.oldest_and_newest(
    "apply workers fire the trigger that takes note of marks"
)

NOT_ARRIVED = "PY001"
UNKNOWN_COURSE = "PY005"


@pytest.fixture(scope="module")
def app(portal_server: Cluster, course_server: Cluster, portal_template: str) -> Iterator[App]:
    """A portal with course A, for all tests here that leave it as it is."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    site.add("A")
    with application(site) as app:
        yield app
    site.close()


@pytest.fixture
def course(app: App) -> Iterator[psycopg.Connection[Any]]:
    with app.site.course("A") as connection:
        yield connection


def future_mark(site: Site) -> int:
    """Return a mark that is yet to come."""
    return int(site.one("select pysync.mark('A')")) + 10**12


@pytest.mark.parametrize("course_id", ["B", "default", "", "a", None])
def test_a_mark_for_an_unknown_course_is_an_error(app: App, course_id: str | None) -> None:
    with pytest.raises(psycopg.Error, match=f"course '{course_id or ''}' is not registered") as e:
        app.site.one("select pysync.mark(%s)", course_id)
    assert e.value.sqlstate == UNKNOWN_COURSE


def test_what_was_committed_before_the_mark_is_visible_after_the_wait(
    app: App, course: psycopg.Connection[Any]
) -> None:
    for number in range(20):
        user = app.user(f"quick-{number}")
        app.enroll(user, "A")
        mark = app.site.one("select pysync.mark('A')")
        course.execute("call course.wait_for(%s, interval '30 s')", (mark,))
        found = course.execute("select username from auth_user where id = %s", (user,)).fetchall()
        assert found == [(f"quick-{number}",)]


def test_an_old_token_and_a_default_patience_return_at_once(
    app: App, course: psycopg.Connection[Any]
) -> None:
    marks = [app.site.one("select pysync.mark('A')") for _ in range(2)]
    for mark in (*reversed(marks), 0, -1):
        course.execute("call course.wait_for(%s)", (mark,))
    course.execute("call course.wait_for(%s, interval '0')", (marks[0],))


@pytest.mark.parametrize("seconds", [-1, 0, 0.3])
def test_the_wait_gives_up_after_the_interval_given(
    app: App, course: psycopg.Connection[Any], seconds: float
) -> None:
    mark = future_mark(app.site)
    begin = time.monotonic()
    with pytest.raises(psycopg.Error, match=rf"course 'A' has not received mark {mark}") as e:
        course.execute("call course.wait_for(%s, make_interval(secs => %s))", (mark, seconds))
    assert e.value.sqlstate == NOT_ARRIVED
    assert max(seconds, 0) <= time.monotonic() - begin < max(seconds, 0) + 5


@pytest.mark.parametrize("arguments", ["null", "1, null"])
def test_a_wait_for_nothing_or_without_end_is_refused(
    course: psycopg.Connection[Any], arguments: str
) -> None:
    with pytest.raises(psycopg.errors.NullValueNotAllowed):
        course.execute(f"call course.wait_for({arguments})")


@pytest.mark.parametrize("level", ["read uncommitted", "read committed"])
def test_the_wait_works_in_a_transaction_that_sees_new_commits(
    app: App, course: psycopg.Connection[Any], level: str
) -> None:
    with course.transaction():
        course.execute(f"set transaction isolation level {level}")
        course.execute("select count(*) from auth_user")
        user = app.user(f"within-{level}")
        app.enroll(user, "A")
        course.execute("call course.wait_for(%s)", (app.site.one("select pysync.mark('A')"),))
        assert course.execute("select 1 from auth_user where id = %s", (user,)).fetchall() == [(1,)]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_the_wait_refuses_a_transaction_that_would_never_see_the_mark(
    app: App, course: psycopg.Connection[Any], level: str
) -> None:
    mark = app.site.one("select pysync.mark('A')")
    course.execute(f"begin isolation level {level}")
    with pytest.raises(psycopg.errors.ActiveSqlTransaction, match="READ COMMITTED"):
        course.execute("call course.wait_for(%s)", (mark,))


def test_tokens_grow_in_commit_order_whoever_asks(app: App) -> None:
    site = app.site

    def marks(_: int) -> list[int]:
        with site.connect() as connection:
            return [
                connection.execute("select pysync.mark('A')").fetchall()[0][0] for _ in range(50)
            ]

    before = site.one("select max(number) from course.mark where course_id = 'A'")
    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(marks, range(4)))
    every = [mark for each in given for mark in each]
    assert all(each == sorted(each) for each in given)
    assert min(every) > before
    assert site.one("select max(number) from course.mark where course_id = 'A'") == max(every)


def test_a_transaction_that_stays_open_after_its_mark_keeps_nobody_waiting(
    app: App, course: psycopg.Connection[Any]
) -> None:
    site = app.site
    rows = "select count(*) from course.mark where course_id = 'A'"
    with ExitStack() as stack:
        first, second, third, portal = (stack.enter_context(site.connect()) for _ in range(4))
        portal.execute("set lock_timeout = '1s'")
        held = []
        for connection in (first, second):
            connection.execute("begin")
            held += connection.execute("select pysync.mark('A')").fetchall()[0]
        # The clock was set back, and the row that has the newest mark is locked.
        mark = portal.execute("select pysync.mark('A')").fetchall()[0][0]
        portal.execute(
            "update course.mark set number = number + 10 ^ 6,"
            " predecessors = jsonb_build_object(id, number) where number = %s",
            (mark,),
        )
        third.execute("begin")
        third.execute("select from course.mark where number > %s for update", (mark,))
        held.append(mark + 10**6)
        user = app.user("meanwhile")
        app.enroll(user, "A")
        marks = [portal.execute("select pysync.mark('A')").fetchall()[0][0] for _ in range(3)]
        sent = portal.execute("select mark from pysync.send_marks(array['A', 'nowhere'])")
        marks += sent.fetchall()[0]
        assert [*held, *marks] == sorted({*held, *marks})
        course.execute("call course.wait_for(%s, interval '30 s')", (marks[0],))
        assert course.execute("select 1 from auth_user where id = %s", (user,)).fetchall()
        course.execute("call course.wait_for(%s, interval '30 s')", (held[0],))
        for connection in (first, second, third):
            connection.execute("commit")
        assert portal.execute("select pysync.mark('A')").fetchall()[0][0] > marks[-1]
    # As many rows as there were senders at once, however many marks: one is free again by now.
    count = site.one(rows)
    for _ in range(20):
        site.one("select pysync.mark('A')")
    assert site.one(rows) == count <= 5
    site.wait()
    assert course.execute("select * from course.missing_mark").fetchall() == []


def test_a_mark_that_is_rolled_back_was_never_given(app: App) -> None:
    seen = "select max(number) from course.mark where course_id = 'A'"
    before = app.site.one(seen)
    with app.site.connect() as portal, portal.transaction(force_rollback=True):
        portal.execute("select pysync.mark('A')")
    assert app.site.one(seen) == before


def test_tokens_keep_growing_for_a_course_that_is_registered_again(site: Site) -> None:
    site.register_only("A")
    with registry.connect_portal(site.portal) as portal:
        course = Course(CourseId("A"), "unused", "", "", "")
        site.execute("delete from pysync.course")
        registry.register(portal, course)
        before = site.one("select pysync.mark('A')")
        fan_out.clear(portal, CourseId("A"))
        registry.unregister(portal, CourseId("A"))
        registry.register(portal, course)
        assert site.one("select pysync.mark('A')") > before


def test_the_wait_stands_a_stream_of_writes(app: App, course: psycopg.Connection[Any]) -> None:
    site = app.site
    busy, watched = app.user("busy"), app.user("watched")
    for user in (busy, watched):
        app.enroll(user, "A")
    stop = threading.Event()

    def write() -> int:
        written = 0
        with app.connect() as connection:
            while not stop.is_set():
                connection.execute("update auth_user set last_login = now() where id = %s", (busy,))
                written += 1
        return written

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for number in range(20):
                app.execute("update auth_user set email = %s where id = %s", str(number), watched)
                site.wait()
                (found,) = course.execute(
                    "select email from auth_user where id = %s", (watched,)
                ).fetchall()
                assert found == (str(number),)
        finally:
            stop.set()
        assert writing.result() > 0
    site.wait()
    assert_live_rows(site, "A")


def test_the_wait_does_not_end_before_the_first_copy_is_complete(site: Site) -> None:
    ada = site.one("insert into auth_user (username, password) values ('ada', '') returning id")
    site.execute("insert into student_courseenrollment (user_id, course_id) values (%s, 'A')", ada)
    conninfo = site.databases["A"] = site.new_database()
    migrate(conninfo, COURSE, "course", course=CourseId("A"))
    name = site.portal.partition("dbname=")[2].split()[0] + "_copying"
    course = Course(CourseId("A"), name, "", "", "")
    with registry.connect_portal(site.portal) as portal, site.course("A") as database:
        registry.register(portal, course)
        fan_out.backfill(portal, CourseId("A"), lambda _: None)
        publications.ensure(portal, course)
        subscriptions.create(database, course, site.portal)
        portal.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
        # One table's copy has to wait for us; the others' don't, the mark's among them.
        with site.course("A") as holding, holding.transaction():
            holding.execute("lock table course.auth_user in share mode")
            subscriptions.enable(database, course)
            mark = site.one("select pysync.mark('A')")
            deadline = time.monotonic() + 30
            while not database.execute(
                "select 1 from course.mark where number >= %s"
                " and exists (select from pg_subscription_rel where srsubstate = 'r'"
                "             and srrelid = 'course.student_courseenrollment'::regclass)",
                (mark,),
            ).fetchall():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(psycopg.Error) as error:
                database.execute("call course.wait_for(%s, interval '200 ms')", (mark,))
            assert error.value.sqlstate == NOT_ARRIVED
        database.execute("call course.wait_for(%s, interval '30 s')", (mark,))
        assert_live_rows(site, "A")


MARK_GRANTS = ("usage on schema pysync", "execute on function pysync.mark(text)")
WAIT_GRANTS = (
    "usage on schema course",
    "execute on procedure course.wait_for(bigint, interval)",
)


def test_a_role_needs_the_two_grants_and_no_more(app: App) -> None:
    site = app.site
    conninfo = site.databases["A"]
    with role(site, *MARK_GRANTS) as name, site.connect(user=name) as portal:
        (mark,) = portal.execute("select pysync.mark('A')").fetchall()[0]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            portal.execute("select * from pysync.course")
    with (
        role(site, *WAIT_GRANTS, conninfo=conninfo) as name,
        site.connect(conninfo, user=name) as course,
    ):
        course.execute("call course.wait_for(%s)", (mark,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            course.execute("select * from course.mark")


@pytest.mark.parametrize("given", [0, 1])
def test_a_role_with_one_of_the_grants_may_not_call_them(app: App, given: int) -> None:
    site = app.site
    for grants, target, call in (
        (MARK_GRANTS, site.portal, "select pysync.mark('A')"),
        (WAIT_GRANTS, site.databases["A"], "call course.wait_for(0)"),
    ):
        with (
            role(site, grants[given], conninfo=target) as name,
            site.connect(target, user=name) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(call)
