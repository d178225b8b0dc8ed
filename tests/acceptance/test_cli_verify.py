"""``pysync verify`` and ``repair``: each fault made for real, found, mended, and then gone."""

from __future__ import annotations

import json
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.types import CourseId
from pysync.verification import Difference, Verification, repair, verify
from tests.acceptance.test_cli_process import (
    assert_refused,
    cli,
    courses_of,
    launch,
    succeed,
)
from tests.support import (
    Cluster,
    Rows,
    Silent,
    Site,
    as_superuser,
    assert_live_rows,
    enroll,
    eventually,
    insert_user,
    unenroll,
)

pytestmark = pytest.mark.oldest_and_newest("rows compared as each version writes and orders them")

Found = set[tuple[str, str, str, int, tuple[str, ...]]]

EVERY_USER_COLUMN = (
    "update auth_user set password = 'x', is_superuser = true, username = 'other',"
    " first_name = 'x', last_name = 'x', email = 'x', is_staff = true, is_active = false,"
    " date_joined = date_joined + interval '1 microsecond' where id = 1"
)
EVERY_PROFILE_COLUMN = (
    "update auth_userprofile set name = 'x', meta = 'x', courseware = 'x', language = 'x',"
    " location = 'x', year_of_birth = 1, gender = 'x', level_of_education = 'x',"
    " mailing_address = 'x', goals = '' where user_id = 1"
)


def rows(conninfo: str, query: str) -> Rows:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def behind_triggers(conninfo: str, *statements: str) -> None:
    """Run statements in one transaction in which no trigger or foreign key fires.

    It gives up its locks before an apply worker could meet a deadlock with it, and tries again.
    """
    while True:
        try:
            with psycopg.connect(
                as_superuser(conninfo), options="-c search_path=public,course"
            ) as connection:
                connection.execute("set local session_replication_role = replica")
                connection.execute("set local lock_timeout = '100ms'")
                for statement in statements:
                    connection.execute(statement.encode())
        except psycopg.errors.LockNotAvailable:
            continue
        return


def described(found: list[Difference]) -> Found:
    return {(each.place, each.kind, each.table, each.id, each.columns) for each in found}


def verified(site: Site, course_id: str = "A") -> Verification:
    (found,) = verify(site.portal, [CourseId(course_id)], Silent())
    assert found.error is None
    return found


def assert_clean(site: Site, course_id: str = "A") -> None:
    found = verified(site, course_id)
    assert found.differences == []
    assert found.unsettled == 0


@pytest.fixture
def faulty(site: Site) -> Site:
    """A course with live, frozen and deleted members, columns and rows of its own."""
    for name in ("ada", "bob", "cyd", "dan", "eve"):
        user_id = insert_user(site, name)
        site.execute(
            "insert into auth_userprofile (user_id, name, meta, goals) values (%s, %s, '', null)",
            user_id,
            name,
        )
    site.add("A")
    for user_id in (1, 2, 3, 4):
        enroll(site, user_id, "A")
    unenroll(site, 3, "A")
    site.execute("update auth_user set email = 'changed@example.org' where id = 3")
    site.execute("delete from auth_user where id = 4")
    site.wait("A")
    course = site.course("A")
    course.execute("alter table auth_user add column karma int not null default 7")
    course.execute("alter table auth_userprofile add column badge text")
    course.execute("create table post (author bigint references course.auth_user)")
    course.execute("insert into post values (1)")
    course.execute("update auth_user set karma = id * 10")
    course.execute("update auth_userprofile set badge = 'badge ' || user_id")
    return site


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and how a verification must put it."""

    name: str
    in_course: tuple[str, ...] = ()
    on_portal: tuple[str, ...] = ()
    expected: tuple[tuple[str, str, str, int, tuple[str, ...]], ...] = ()
    anew: tuple[int, ...] = ()  # users whose rows in the course were really gone


USER_COLUMNS = (
    "password",
    "is_superuser",
    "username",
    "first_name",
    "last_name",
    "email",
    "is_staff",
    "is_active",
    "date_joined",
)
PROFILE_COLUMNS = (
    "name",
    "meta",
    "courseware",
    "language",
    "location",
    "year_of_birth",
    "gender",
    "level_of_education",
    "mailing_address",
    "goals",
)
U, P, E = "auth_user", "auth_userprofile", "student_courseenrollment"

FAULTS = [
    Fault(
        "rows deleted in the course",
        in_course=(
            "delete from student_courseenrollment where user_id = 1",
            "delete from auth_userprofile where user_id = 1",
            "delete from auth_user where id = 1",
            "delete from auth_user where id = 3",
        ),
        expected=(
            ("course", "missing", E, 1, ()),
            ("course", "missing", P, 1, ()),
            ("course", "missing", U, 1, ()),
            ("course", "missing", U, 3, ()),
        ),
        anew=(1, 3),
    ),
    Fault(
        "every column altered in the course, NULL to the empty string among them",
        in_course=(
            EVERY_USER_COLUMN,
            EVERY_PROFILE_COLUMN,
            "update student_courseenrollment set created = null, user_id = 3 where id = 1",
        ),
        expected=(
            ("course", "differs", U, 1, USER_COLUMNS),
            ("course", "differs", P, 1, PROFILE_COLUMNS),
            ("course", "differs", E, 1, ("user_id", "created")),
        ),
    ),
    Fault(
        "usernames swapped in the course, and a frozen copy altered",
        in_course=(
            "update auth_user set username = 'bob?' where id = 2",
            "update auth_user set username = 'bob' where id = 1",
            "update auth_user set username = 'ada' where id = 2",
            "update auth_user set first_name = 'x' where id = 3",
        ),
        expected=(
            ("course", "differs", U, 1, ("username",)),
            ("course", "differs", U, 2, ("username",)),
            ("course", "differs", U, 3, ("first_name",)),
        ),
    ),
    Fault(
        "extra rows in the course, among them a stranger who holds a member's username",
        in_course=(
            "insert into auth_user (id, course_id, password, username) values (99, 'A', '', 'x')",
            "insert into auth_userprofile (id, course_id, user_id) values (99, 'A', 99)",
            "insert into student_courseenrollment (id, course_id, user_id) values (99, 'A', 3)",
            "update auth_user set username = 'gone' where id = 1",
            "insert into auth_user (id, course_id, password, username) values (-5, 'A', '', 'ada')",
        ),
        expected=(
            ("course", "extra", U, 99, ()),
            ("course", "extra", P, 99, ()),
            ("course", "extra", E, 99, ()),
            ("course", "differs", U, 1, ("username",)),
            ("course", "extra", U, -5, ()),
        ),
    ),
    Fault(
        "rows altered in the fan-out, made for nobody, and for an erased user",
        on_portal=(
            "update course.auth_user set email = 'x', last_login = now() where id = 1",
            "update course.auth_userprofile set goals = '' where user_id = 2",
            "update course.student_courseenrollment set created = null where user_id = 2",
            "update course.auth_user set email = 'dan@example.org' where id = 4",
            "insert into course.auth_userprofile (id, course_id, user_id, name, meta, courseware,"
            " language, location) values (4, 'A', 4, '', '', '', '', '')",
            "insert into course.auth_userprofile (id, course_id, user_id, name, meta, courseware,"
            " language, location) values (88, 'A', 77, '', '', '', '', '')",
        ),
        expected=(
            ("portal", "differs", U, 1, ("email", "last_login")),
            ("portal", "differs", P, 2, ("goals",)),
            ("portal", "differs", E, 2, ("created",)),
            ("portal", "differs", U, 4, ("email",)),
            ("portal", "extra", P, 4, ()),
            ("portal", "extra", P, 88, ()),
        ),
    ),
    Fault(
        "changes on the portal without triggers",
        on_portal=(
            "update public.auth_user set username = 'bob?' where id = 2",
            "update public.auth_user set username = 'bob' where id = 1",
            "update public.auth_user set username = 'ada' where id = 2",
            "update public.auth_userprofile set name = 'Bob' where id = 2",
            "insert into public.student_courseenrollment (id, user_id, course_id)"
            " overriding system value values (50, 5, 'A')",
        ),
        expected=(
            ("portal", "differs", U, 1, ("username",)),
            ("portal", "differs", U, 2, ("username",)),
            ("portal", "differs", P, 2, ("name",)),
            ("portal", "missing", U, 5, ()),
            ("portal", "missing", P, 5, ()),
            ("portal", "missing", E, 50, ()),
        ),
        anew=(5,),
    ),
    Fault(
        "unenrolled on the portal without triggers",
        on_portal=("delete from public.student_courseenrollment where id = 50",),
        expected=(
            ("portal", "differs", U, 5, ("live",)),
            ("portal", "extra", E, 50, ()),
        ),
    ),
    Fault(
        "profiles deleted and made anew on the portal without triggers",
        on_portal=(
            "delete from public.auth_userprofile where user_id in (1, 2)",
            "insert into public.auth_userprofile (id, user_id, name) overriding system value"
            " values (70, 1, 'new')",
        ),
        expected=(
            ("portal", "extra", P, 1, ()),
            ("portal", "extra", P, 2, ()),
            ("portal", "missing", P, 70, ()),
        ),
    ),
    Fault(
        "rows missing in the fan-out",
        on_portal=(
            "delete from course.auth_user where id = 2",
            "delete from course.student_courseenrollment where user_id = 1",
            "delete from course.auth_userprofile where user_id = 1",
        ),
        expected=(
            ("portal", "missing", U, 2, ()),
            ("portal", "missing", E, 1, ()),
            ("portal", "missing", P, 70, ()),
        ),
        anew=(2,),
    ),
    Fault(
        "a user deleted on the portal without triggers",
        on_portal=(
            "delete from public.student_courseenrollment where user_id = 2",
            "delete from public.auth_userprofile where user_id = 2",
            "delete from public.auth_user where id = 2",
        ),
        expected=(
            ("portal", "differs", U, 2, ("email", "is_active", "live", "password", "username")),
            ("portal", "extra", E, 2, ()),
        ),
    ),
    Fault(
        "different rows wrong on both sides",
        in_course=("update auth_userprofile set goals = 'here' where id = 70",),
        on_portal=("update public.auth_user set email = 'there' where id = 1",),
        expected=(
            ("portal", "differs", U, 1, ("email",)),
            ("course", "differs", P, 70, ("goals",)),
        ),
    ),
]


@pytest.mark.newest("takes long; how rows are written and ordered, other tests see on both ends")
@pytest.mark.timeout(240)
def test_each_fault_is_found_and_mended(faulty: Site) -> None:
    assert_clean(faulty)
    for fault in FAULTS:
        if fault.on_portal:
            behind_triggers(faulty.portal, *fault.on_portal)
            faulty.wait("A")
        if fault.in_course:
            behind_triggers(faulty.databases["A"], *fault.in_course)
        expected = set(fault.expected)
        assert described(verified(faulty).differences) == expected, fault.name
        before = everything(faulty)
        planned = repair(faulty.portal, CourseId("A"), Silent(), dry_run=True)
        assert described(planned.mended) == expected, fault.name
        assert planned.after is None
        assert everything(faulty) == before, fault.name
        done = repair(faulty.portal, CourseId("A"), Silent())
        assert described(done.mended) == expected, fault.name
        assert done.after is not None
        assert done.after.clean, fault.name
        assert_live_rows(faulty, "A")
        assert faulty.course("A").execute("select * from post").fetchall() == [(1,)]
        for user_id, karma in rows(faulty.databases["A"], "select id, karma from course.auth_user"):
            assert karma == (7 if user_id in fault.anew else user_id * 10), fault.name
        faulty.course("A").execute("update auth_user set karma = id * 10")
    # Replication never stopped on the way.
    status = courses_of("status", portal=faulty.portal)["A"]
    assert (status["state"], status["apply_errors"]) == ("streaming", 0)


def everything(site: Site) -> list[Rows]:
    return [
        rows(conninfo, f"select * from course.{table} order by id")
        for conninfo in (site.portal, site.databases["A"])
        for table in (U, P, E)
    ]


def unpublished(site: Site, *statements: str) -> None:
    """Run statements on the portal that replication passes over."""
    name = sql.Identifier(site.one("select replication_name from pysync.course"))
    alter = sql.SQL("alter publication {} set (publish = {})")
    with psycopg.connect(site.portal) as connection:
        connection.execute("set local session_replication_role = replica")
        connection.execute(alter.format(name, sql.Literal("")))
        for statement in statements:
            connection.execute(statement.encode())
        connection.execute(alter.format(name, sql.Literal("insert, update, delete")))


@pytest.mark.newest("the order of our own steps; rows of both ends are compared below")
def test_rows_that_only_the_course_has_return_to_the_fan_out(faulty: Site) -> None:
    """Replicated, they would stop the apply worker; deleted, they would lose the course's columns."""
    unpublished(
        faulty,
        "delete from course.student_courseenrollment where user_id = 1",
        "delete from course.auth_userprofile where user_id = 1",
        "delete from course.auth_user where id = 1",
        "delete from course.auth_user where id = 2",
    )
    behind_triggers(faulty.databases["A"], "update auth_user set email = 'x' where id = 1")
    found = verified(faulty)
    lacking = {(U, 1), (P, 1), (E, 1), (U, 2)}
    assert {(each.table, each.id) for each in found.differences} == lacking
    assert len(found.differences) == 2 * len(lacking)
    done = repair(faulty.portal, CourseId("A"), Silent())
    assert done.after is not None
    assert done.after.clean
    # Published again, and nothing is in its way.
    insert = "update auth_user set email = 'new@example.org' where id in (1, 2)"
    faulty.execute(insert)
    faulty.wait("A")
    assert faulty.course("A").execute(
        "select id, karma, email from auth_user where id in (1, 2) order by id"
    ).fetchall() == [(1, 10, "new@example.org"), (2, 20, "new@example.org")]
    assert courses_of("status", portal=faulty.portal)["A"]["apply_errors"] == 0
    assert_clean(faulty)


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_stranger_whom_local_rows_point_at_is_scrubbed_and_kept(faulty: Site) -> None:
    behind_triggers(
        faulty.databases["A"],
        "insert into auth_user (id, course_id, password, username, email, karma) values"
        " (98, 'A', 'secret', 'x', 'x', 5), (99, 'A', 'secret', 'y', 'y', 6)",
        "insert into post values (99)",
    )
    succeed("repair", "A", portal=faulty.portal)
    course = faulty.course("A")
    assert course.execute(
        "select id, username, email, password, is_active, karma from auth_user where id > 90"
    ).fetchall() == [(99, "deleted-99", "", "!", False, 6)]
    found = verified(faulty)
    assert (found.clean, found.kept) == (True, 1)
    assert "scrubbed, kept because local rows" in succeed("verify", portal=faulty.portal)
    course.execute("delete from post where author = 99")
    assert described(verified(faulty).differences) == {("course", "extra", U, 99, ())}
    succeed("repair", "A", portal=faulty.portal)
    assert course.execute("select from auth_user where id > 90").fetchall() == []


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_login_in_the_course_is_a_note(faulty: Site) -> None:
    course = faulty.course("A")
    course.execute("update auth_user set last_login = now() where id in (1, 2)")
    found = verified(faulty)
    assert (found.clean, found.logins) == (True, 2)
    behind_triggers(faulty.databases["A"], "update auth_user set email = 'x' where id = 1")
    succeed("repair", "A", portal=faulty.portal)
    assert course.execute(
        "select count(*) from auth_user where last_login is not null"
    ).fetchone() == (2,)
    shown = succeed("verify", portal=faulty.portal)
    assert "note: last_login is another in the course for 2 users" in shown


@pytest.mark.newest("what the command line makes of its input, whatever the server")
def test_what_differs_is_told_by_key_and_values_only_when_asked(faulty: Site) -> None:
    # Nothing of how a server writes values may matter.
    course = faulty.course("A")
    for setting in ("timezone = 'Asia/Kolkata'", "datestyle = 'SQL, DMY'"):
        course.execute(
            sql.SQL("alter database {} set " + setting).format(sql.Identifier(course.info.dbname))
        )
    behind_triggers(
        faulty.databases["A"], "update auth_user set email = 'wrong@example.org' where id = 1"
    )
    result = cli("verify", portal=faulty.portal)
    assert result.returncode == 1
    assert "A: auth_user 1 differs in the course: email\n" in result.stdout
    assert "A: run:\n    pysync repair A\n" in result.stdout
    assert "example.org" not in result.stdout + result.stderr
    (row,) = [line.split() for line in result.stdout.splitlines() if " wrong) " in line]
    assert row == ["A", "differs", "4", "(1", "wrong)", "3", "2", "1"]
    recorded = "select differences from pysync.verification where course_id = 'A'"
    assert faulty.one(recorded) == 1
    result = cli("verify", "A", "--format", "json", portal=faulty.portal)
    assert result.returncode == 1
    assert "example.org" not in result.stdout + result.stderr
    document = json.loads(result.stdout)
    difference = {
        "table": "auth_user",
        "id": 1,
        "place": "course",
        "kind": "differs",
        "columns": ["email"],
    }
    assert document == {
        "version": 1,
        "courses": [
            {
                "course_id": "A",
                "relay": None,
                "clean": False,
                "error": None,
                "rows": {U: 4, P: 3, E: 2},
                "differences": [difference],
                "unsettled": 0,
                "last_login_differs": 0,
                "scrubbed_and_kept": 0,
                "dangling": [],
            }
        ],
    }
    result = cli("verify", "A", "--show-values", "--format", "json", portal=faulty.portal)
    (course,) = json.loads(result.stdout)["courses"]
    values = {"email": {"expected": "ada@example.org", "found": "wrong@example.org"}}
    assert course["differences"] == [difference | {"values": values}]
    result = cli("verify", "--show-values", portal=faulty.portal)
    assert "(email 'wrong@example.org' instead of 'ada@example.org')" in result.stdout
    shown = succeed("repair", "A", "--dry-run", portal=faulty.portal)
    assert shown.splitlines() == [
        "auth_user 1 differs in the course: email: would be updated",
        "course 'A': 1 row would be mended, nothing was changed",
    ]
    assert succeed("repair", "A", portal=faulty.portal).splitlines() == [
        "auth_user 1 differs in the course: email: updated",
        "course 'A': 1 row mended",
    ]
    assert faulty.one(recorded) == 0
    assert succeed("repair", "A", portal=faulty.portal) == (
        "course 'A' equals the portal: nothing to mend\n"
    )


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_course_that_cannot_be_compared_does_not_stop_the_others(site: Site) -> None:
    assert succeed("verify", portal=site.portal) == "no courses registered\n"
    site.add("A")
    site.add("B")
    site.add("C")
    site.execute(
        "update pysync.course set conninfo = 'host=127.0.0.1 port=1 dbname=x' where course_id = 'A'"
    )
    name = site.one("select replication_name from pysync.course where course_id = 'B'")
    site.course("B").execute(sql.SQL("alter subscription {} disable").format(sql.Identifier(name)))
    result = cli("verify", "--jobs", "2", "--format", "json", portal=site.portal)
    assert result.returncode == 1
    found = {each["course_id"]: each for each in json.loads(result.stdout)["courses"]}
    assert [(k, v["clean"]) for k, v in found.items()] == [("A", False), ("B", False), ("C", True)]
    assert "can't be reached" in found["A"]["error"]
    assert "its subscription is disabled" in found["B"]["error"]
    assert site.execute("select course_id, differences from pysync.verification") == [("C", 0)]
    assert succeed("verify", "C", portal=site.portal).split()[-6:] == ["C", "equal", *"0000"]
    assert_refused(cli("verify", "nobody", portal=site.portal), "course 'nobody'")
    assert_refused(cli("repair", "nobody", portal=site.portal), "course 'nobody'")
    assert_refused(cli("rebuild", "nobody", portal=site.portal), "course 'nobody'")
    assert cli("repair", "B", portal=site.portal).returncode == 1


ADOPTED = (
    "create table auth_user (id serial primary key, password varchar(100) not null,"
    ' last_login timestamptz, is_superuser boolean not null, username varchar(30) collate "C"'
    " not null unique, first_name varchar(30) not null, last_name varchar(30) not null,"
    " email varchar(75) not null, is_staff boolean not null, is_active boolean not null,"
    " date_joined timestamptz not null, nickname text)",
    "create table auth_userprofile (id serial primary key, user_id integer not null unique"
    " references auth_user deferrable initially deferred, name varchar(255) not null, meta text"
    " not null, courseware varchar(255) not null, language varchar(255) not null,"
    " location varchar(255) not null, year_of_birth smallint, gender varchar(6),"
    " level_of_education varchar(6), mailing_address text, goals text)",
    "create table student_courseenrollment (id serial primary key, user_id integer not null"
    " references auth_user deferrable initially deferred, course_id varchar(255) not null,"
    " created timestamptz, unique (user_id, course_id))",
)


def test_an_adopted_portal_has_types_of_its_own(
    portal_server: Cluster, course_server: Cluster
) -> None:
    site = Site(portal_server, course_server, portal_server.create())
    try:
        for statement in ADOPTED:
            site.execute(statement)
        migrate(site.portal, PORTAL, "portal")
        site.execute(
            "insert into auth_user (password, is_superuser, username, first_name, last_name, email,"
            " is_staff, is_active, date_joined, nickname) select '', false, 'user' || n, '', 'é,\"\\',"
            " '', false, true, now(), 'x' from generate_series(1, 3) as n"
        )
        site.execute(
            "insert into auth_userprofile (user_id, name, meta, courseware, language, location,"
            " year_of_birth) select id, '', '', '', '', '', 1912 from auth_user"
        )
        site.add("A")
        site.execute(
            "insert into student_courseenrollment (user_id, course_id) select id, 'A' from auth_user"
        )
        assert_clean(site)
        behind_triggers(
            site.portal,
            "update public.auth_user set last_name = 'x' where id = 1",
            "update public.auth_userprofile set year_of_birth = null where user_id = 2",
            "delete from public.student_courseenrollment where user_id = 3",
        )
        expected = {
            ("portal", "differs", U, 1, ("last_name",)),
            ("portal", "differs", P, 2, ("year_of_birth",)),
            ("portal", "differs", U, 3, ("live",)),
            ("portal", "extra", E, 3, ()),
        }
        assert described(verified(site).differences) == expected
        behind_triggers(site.databases["A"], "delete from auth_user where id = 1")
        done = repair(site.portal, CourseId("A"), Silent())
        assert done.after is not None
        assert done.after.clean
        assert_live_rows(site, "A")
    finally:
        site.close()


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_killed_repair_is_run_again(faulty: Site) -> None:
    """It leaves no locks, and whole rows only."""
    behind_triggers(
        faulty.databases["A"],
        "update auth_user set email = 'x', first_name = 'x'",
        "delete from auth_userprofile",
    )
    behind_triggers(faulty.portal, "update public.auth_user set last_name = 'x' where id = 2")
    holder = faulty.connect(faulty.databases["A"])
    with holder.transaction():
        holder.execute("select from course.auth_user where id = 2 for update")
        process = launch("repair", "A", portal=faulty.portal)
        blocked = "select true from pg_stat_activity where wait_event_type = 'Lock' and pid <> %s"
        course = faulty.course("A")
        eventually(lambda: course.execute(blocked, (course.info.backend_pid,)).fetchall())
        process.kill()
        process.communicate()
    done = repair(faulty.portal, CourseId("A"), Silent())
    assert done.after is not None
    assert done.after.clean
    assert_live_rows(faulty, "A")
    assert course.execute("select count(*) from auth_user where karma <> id * 10").fetchone() == (
        0,
    )
