"""``pysync verify``, ``repair`` and ``rebuild`` while both sides are written to without a pause."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pysync.lifecycle import courses
from pysync.types import CourseId, relay_id
from pysync.verification import rebuild, repair, settle
from tests.acceptance.test_cli_process import cli, courses_of, succeed
from tests.acceptance.test_cli_verify import (
    E,
    P,
    U,
    assert_clean,
    behind_triggers,
    described,
    verified,
)
from tests.support import Silent, Site, assert_live_rows, eventually, insert_user, unenroll

pytestmark = pytest.mark.newest("takes long, and waits on transactions as any version has them")

USERS = 300
QUIET = 100
"""Users up to this id are left alone: what is planted there stays."""

PAUSE_SECONDS = 0.015
"""Between a writer's statements: hundreds a second are in flight, and others' tests go on."""

RETRIED = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
    psycopg.errors.ForeignKeyViolation,
    psycopg.errors.SerializationFailure,
)


class Writer(threading.Thread):
    """Writes single changes one after the other, whatever may be written."""

    def __init__(self, conninfo: str, statements: list[str]) -> None:
        super().__init__()
        self.conninfo = conninfo
        self.statements = statements
        self.done = threading.Event()
        self.count = 0
        self.failure: psycopg.Error | None = None

    def run(self) -> None:
        random_ = random.Random(self.name)
        try:
            with psycopg.connect(self.conninfo, autocommit=True) as connection:
                while not self.done.wait(PAUSE_SECONDS):
                    statement = random_.choice(self.statements)
                    user_id = random_.randint(QUIET + 1, USERS)
                    try:
                        connection.execute(statement.encode(), {"user": user_id, "hot": QUIET + 1})
                    except RETRIED:
                        continue
                    self.count += 1
        except psycopg.Error as failure:
            self.failure = failure


ON_PORTAL = [
    "update auth_user set email = clock_timestamp()::text where id = %(user)s",
    "update auth_user set email = clock_timestamp()::text where id = %(hot)s",
    "update auth_user set username = 'u' || (random() * 500)::int where id = %(user)s",
    "update auth_userprofile set goals = clock_timestamp()::text where user_id = %(user)s",
    "delete from auth_userprofile where user_id = %(user)s",
    "insert into auth_userprofile (user_id, name) select id, '' from auth_user where id = %(user)s",
    "insert into student_courseenrollment (user_id, course_id)"
    " select id, 'A' from auth_user where id = %(user)s",
    "delete from student_courseenrollment where course_id = 'A' and user_id = %(user)s",
    "update student_courseenrollment set created = clock_timestamp() where user_id = %(user)s",
    "delete from auth_user where id = %(user)s and %(user)s %% 10 = 0",
    "with added as (insert into auth_user (username, password)"
    " values ('new' || clock_timestamp(), '') returning id)"
    " insert into student_courseenrollment (user_id, course_id) select id, 'A' from added",
]
IN_COURSE = [
    "update auth_user set karma = karma + 1 where id = %(user)s",
    "update auth_user set karma = karma + 1 where id = %(hot)s",
    "update auth_user set last_login = clock_timestamp() where id = %(user)s",
]


@pytest.fixture
def users(site: Site) -> Site:
    site.execute(
        "with added as (insert into auth_user (username, password)"
        "   select 'user' || n, 'x' from generate_series(1, %s) as n returning id)"
        " insert into auth_userprofile (user_id, name) select id, 'name' from added",
        USERS,
    )
    return site


@pytest.fixture
def busy(users: Site) -> Site:
    """A course of some hundred members; nobody writes yet."""
    users.add("A")
    return fill(users)


@pytest.fixture
def relay(users: Site) -> str:
    """The same by way of a relay."""
    conninfo = users.new_database()
    courses.add(users.portal, relay_id("north"), conninfo, Silent())
    users.databases["A"] = users.new_database()
    via = relay_id("north")
    courses.add(users.portal, CourseId("A"), users.databases["A"], Silent(), relay=via)
    fill(users)
    return conninfo


def fill(site: Site) -> Site:
    site.execute(
        "insert into student_courseenrollment (user_id, course_id) select id, 'A' from auth_user"
    )
    site.wait("A")
    site.course("A").execute("alter table auth_user add column karma int not null default 7")
    return site


@contextmanager
def writing(site: Site, in_course: list[str] = IN_COURSE) -> Iterator[list[Writer]]:
    """Write to the portal, twice at once, and to the course."""
    writers = [
        Writer(site.portal, ON_PORTAL),
        Writer(site.portal, ON_PORTAL),
        Writer(site.databases["A"], in_course),
    ]
    for writer in writers:
        writer.start()
    try:
        eventually(lambda: all(writer.count > 20 or writer.failure for writer in writers))
        yield writers
    finally:
        for writer in writers:
            writer.done.set()
            writer.join()
    for writer in writers:
        if writer.failure:
            raise writer.failure


def test_nothing_in_flight_is_taken_for_a_difference(busy: Site) -> None:
    """And what is a difference is found, whatever is in flight."""
    with writing(busy) as writers:
        for number in range(2):
            before = [writer.count for writer in writers]
            assert_clean(busy)
            assert all(writer.count > count for writer, count in zip(writers, before, strict=True))
            planted = number + 1
            behind_triggers(
                busy.databases["A"],
                f"update auth_user set email = 'x' where id = {planted}",
                f"delete from auth_userprofile where user_id = {planted}",
                f"insert into student_courseenrollment (id, course_id, user_id)"
                f" values ({-planted}, 'A', {-planted})",
            )
            expected = {
                ("course", "differs", U, planted, ("email",)),
                ("course", "missing", P, planted, ()),
                ("course", "extra", E, -planted, ()),
            }
            assert described(verified(busy).differences) == expected
            done = repair(busy.portal, CourseId("A"), Silent())
            assert described(done.mended) == expected
            assert done.after is not None
            assert done.after.clean
    busy.wait("A")
    assert courses_of("status", portal=busy.portal)["A"]["apply_errors"] == 0
    busy.course("A").execute("update auth_user set last_login = null")
    assert_live_rows(busy, "A")


def test_repair_beside_the_apply_worker_loses_nothing(busy: Site) -> None:
    """Rows are wrong everywhere, and rewritten all the time by the stream."""
    karma = "select id, karma from auth_user where id <= 100 order by id"
    course = busy.course("A")
    course.execute("update auth_user set karma = id")
    with writing(busy, IN_COURSE[1:]):
        for _ in range(2):
            behind_triggers(
                busy.databases["A"],
                "update auth_user set first_name = 'x', username = 'wrong' || id where id % 2 = 0",
                "delete from auth_userprofile where id % 3 = 0",
                "delete from student_courseenrollment where id % 5 = 0",
            )
            done = repair(busy.portal, CourseId("A"), Silent())
            assert done.after is not None
            assert done.after.clean, done.after
            assert len(done.mended) > 50
    busy.wait("A")
    assert_clean(busy)
    assert course.execute(karma.encode()).fetchall() == [(n, n) for n in range(1, 101)]
    assert courses_of("status", portal=busy.portal)["A"]["apply_errors"] == 0
    course.execute("update auth_user set last_login = null")
    assert_live_rows(busy, "A")


def test_repair_of_a_relay_beside_two_apply_workers_loses_nothing(users: Site, relay: str) -> None:
    """Rows are wrong in each place, on the relay with and without being sent on.

    Rows that the relay alone lacks are of those left alone: else what takes their place on the portal
    would stop the course at what it has still.
    """
    name = users.one("select replication_name from pysync.course where course_id = 'A'")
    silence = f"alter publication {name} set (publish = '')"
    wrong = (
        "update course.auth_user set first_name = 'y' where id % 3 = 0",
        "delete from course.auth_userprofile where id % 4 = 0 and user_id <= 100",
        "delete from course.student_courseenrollment where id % 7 = 0 and user_id <= 100",
    )
    with writing(users, IN_COURSE[1:]):
        for again in (False, True):
            behind_triggers(
                relay,
                *([silence] if again else []),
                *wrong,
                *([silence.replace("''", "'insert, update, delete'")] if again else []),
            )
            behind_triggers(
                users.databases["A"],
                "update auth_user set username = 'wrong' || id where id % 2 = 0",
                "delete from student_courseenrollment where id % 5 = 0",
            )
            done = repair(users.portal, CourseId("A"), Silent())
            assert done.after is not None
            assert done.after.clean, done.after
            assert {each.place.value for each in done.mended} == {"relay", "course"}
    users.wait("A")
    assert_clean(users)
    found = courses_of("status", portal=users.portal)
    assert {each["apply_errors"] for each in found.values()} == {0}
    users.course("A").execute("update auth_user set last_login = null")
    assert_live_rows(users, "A")


def test_rebuild_beside_applications(busy: Site) -> None:
    """After a restore without triggers, of users who have changed, come and gone."""
    behind_triggers(
        busy.portal,
        "update public.auth_user set email = 'restored' where id % 2 = 0 and id <= 100",
        "delete from public.auth_userprofile where user_id % 3 = 0 and user_id <= 100",
        "delete from public.student_courseenrollment where user_id % 5 = 0 and user_id <= 100",
        "insert into public.auth_user (id, username, password, is_superuser, is_staff, is_active)"
        " overriding system value values (1000000, 'restored', '', false, false, true)",
        "insert into public.student_courseenrollment (user_id, course_id) values (1000000, 'A')",
    )
    # Frozen users keep their profiles and what they had.
    expected = {U: 61, P: 27, E: 21}
    with writing(busy):
        document = verified(busy)
        counted = dict.fromkeys((U, P, E), 0)
        for each in document.differences:
            assert each.place == "portal"
            counted[each.table] += 1
        assert counted == expected
        (planned,) = rebuild(busy.portal, None, Silent(), dry_run=True)
        assert planned.rows == expected
        assert succeed("rebuild", "--dry-run", portal=busy.portal) == (
            "course 'A': 109 rows of the fan-out would be mended, nothing was changed\n"
        )
        assert cli("verify", "A", portal=busy.portal).returncode == 1
        assert succeed("rebuild", portal=busy.portal) == (
            "course 'A': 109 rows of the fan-out mended\n"
        )
        assert_clean(busy)
        (again,) = rebuild(busy.portal, CourseId("A"), Silent())
        assert again.rows == {}
    busy.wait("A")
    found: Any = (
        busy.course("A")
        .execute("select count(*) from auth_user where email = 'restored'")
        .fetchone()
    )
    assert found[0] == 40
    assert_clean(busy)


def test_what_is_late_is_no_difference(busy: Site) -> None:
    """However slowly the course applies what it gets."""
    course = busy.course("A")
    course.execute(
        "create function slow() returns trigger language plpgsql as"
        " 'begin perform pg_sleep(0.001); return new; end'"
    )
    for table in (U, P, E):
        course.execute(
            f"create trigger slow before insert or update on {table} for each row"
            " execute function slow()".encode()
        )
        course.execute(f"alter table {table} enable replica trigger slow".encode())
    for change in (
        "update auth_user set email = 'late'",
        "update auth_userprofile set goals = 'late'",
        "delete from student_courseenrollment",
        "insert into student_courseenrollment (user_id, course_id) select id, 'A' from auth_user",
    ):
        busy.execute(change)
        assert_clean(busy)


def test_what_the_portal_itself_cannot_see_yet_is_no_difference(
    busy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that waits for a synchronous standby is in the course already."""
    monkeypatch.setattr(settle, "SNAPSHOT_SECONDS", 0.3)
    monkeypatch.setattr(settle, "TRIES", 1)
    monkeypatch.setattr(settle, "_BRIEFLY", sql.SQL("set local lock_timeout = 50"))
    # A frozen copy that is going to give way, and somebody who isn't enrolled yet.
    unenroll(busy, 2, "A")
    busy.execute("update auth_user set username = 'renamed' where id = 2")
    other = insert_user(busy, "other")
    statements = [
        "update auth_user set email = 'early' where id = 1",
        "with added as (insert into auth_user (username, password) values ('early', '')"
        " returning id) insert into student_courseenrollment (user_id, course_id)"
        " select id, 'A' from added",
        f"insert into student_courseenrollment (user_id, course_id) values ({other}, 'A')",
        "update auth_user set username = 'user2' where id = 3",
    ]
    busy.execute(
        sql.SQL("alter database {} set synchronous_commit = local")
        .format(sql.Identifier(str(conninfo_to_dict(busy.portal)["dbname"])))
        .as_string()
    )
    busy.execute("alter system set synchronous_standby_names = 'nobody'")
    busy.execute("select pg_reload_conf()")
    try:
        waiting = [
            psycopg.connect(busy.portal, options="-c synchronous_commit=on") for _ in statements
        ]
        eventually(lambda: busy.one("show synchronous_standby_names") == "nobody")
        threads = []
        for connection, statement in zip(waiting, statements, strict=True):
            connection.execute(statement.encode())
            threads.append(threading.Thread(target=connection.commit))
            threads[-1].start()
        course = busy.course("A")
        early = (
            "select count(*) from course.auth_user where 'early' in (email, username)"
            " or username in ('other', 'user2~2')"
        )
        eventually(lambda: course.execute(early.encode()).fetchone() == (4,))
        assert busy.one(early) == 0
        found = verified(busy)
        # Who was updated, who is new and enrolled, who is enrolled, who was renamed and who gave way.
        assert (found.differences, found.unsettled) == ([], 1 + 2 + 2 + 2)
        done = repair(busy.portal, CourseId("A"), Silent())
        assert done.mended == []
        assert course.execute(early.encode()).fetchone() == (4,)
    finally:
        busy.execute("alter system reset synchronous_standby_names")
        busy.execute("select pg_reload_conf()")
    for thread in threads:
        thread.join()
    assert busy.one(early) == 4
    assert_clean(busy)
    for each in waiting:
        each.close()
