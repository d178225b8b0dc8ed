"""``pysync course add``: whatever happens, running it again finishes the job."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import pytest

from tests.acceptance.test_cli_process import (
    Fork,
    assert_refused,
    cli,
    courses_of,
    footprint,
    launch,
    succeed,
)
from tests.support import (
    Cluster,
    Site,
    assert_live_rows,
    drop_slot,
    enroll,
    eventually,
    insert_user,
    run_cli,
)

pytestmark = pytest.mark.newest("the order of our own steps, whichever server does them")

Start = Callable[..., Fork]

STREAMING = {
    "state": "streaming",
    "cause": None,
    "tables_ready": 4,
    "tables_total": 4,
    "slot_active": True,
    "apply_errors": 0,
    "sync_errors": 0,
}

IDS = [
    "MITx/6.002x/2012_Fall",
    "mitx-6.002x-2012.fall",
    'it\'s "quoted" `$HOME` [bold]A[/bold] 100% %s %(x)s :x \\x ../../etc',
    "  spaces around, курс 一 💥 é ",
    "ü" * 255,
    "-dashed'; drop table public.auth_user; --",
]


OWN_SUBSCRIPTIONS = (
    "select subname::text, subconninfo from pg_subscription s join pg_database d"
    " on d.oid = s.subdbid where datname = current_database()"
)


def new_course(site: Site, course_id: str, cluster: Cluster | None = None) -> str:
    """Create a database and remember it as the course's; nothing is added."""
    site.databases[course_id] = site.new_database(cluster)
    return site.databases[course_id]


def await_no_slot(site: Site) -> None:
    """Wait until temporary slots are gone: a session ends a moment after its client."""
    eventually(lambda: slots(site) == [])


def assert_only_slot(site: Site, name: str) -> None:
    """A course's slot is the only one, and fails over where the server has such."""
    assert slots(site) == [name]
    query = "select to_jsonb(s) ->> 'failover' from pg_replication_slots s where slot_name = %s"
    assert site.one(query, name) in {"true", None}


def slots(site: Site) -> list[str]:
    """Return the portal database's slots."""
    return [
        name
        for (name,) in site.execute(
            "select slot_name::text from pg_replication_slots where database = current_database()"
            " order by 1"
        )
    ]


def assert_whole(site: Site, course_id: str) -> None:
    """The course streams, all rows are there, and no slot is left of any earlier try."""
    site.wait(course_id)
    assert_live_rows(site, course_id)
    found = courses_of("status", course_id, portal=site.portal)[course_id]
    assert found.items() >= STREAMING.items(), found
    name = site.one("select replication_name from pysync.course where course_id = %s", course_id)
    assert_only_slot(site, name)


def enroll_users(site: Site, course_id: str, count: int) -> None:
    """Enroll users with profiles, in one transaction."""
    site.execute(
        "with added as (insert into auth_user (username, password)"
        "   select 'user' || n, 'x' from generate_series(1, %s) as n returning id),"
        " profiles as (insert into auth_userprofile (user_id, name)"
        "   select id, 'name ' || id from added)"
        " select count(*) from added",
        count,
    )
    site.execute(
        "insert into student_courseenrollment (user_id, course_id) select id, %s from auth_user",
        course_id,
    )


@pytest.mark.also_granted("the whole command")
@pytest.mark.oldest_and_newest("the first copy")
def test_a_course_with_members_is_added_once(site: Site) -> None:
    enroll_users(site, "MITx/6.002x", 3)
    database = new_course(site, "MITx/6.002x")
    result = run_cli("course", "add", "MITx/6.002x", database, portal=site.portal)
    assert (result.returncode, result.stdout) == (0, "course 'MITx/6.002x' added: 3 users there\n")
    assert result.stderr.splitlines() == [
        "migrating the course database …",
        "copying members into the fan-out (3) …",
        "subscribing …",
        "first copy (9) …",
        f"its server reaches the portal by: {site.one('select portal_conninfo from pysync.course')}",
    ]
    assert_whole(site, "MITx/6.002x")
    before = footprint(site.portal, database)
    assert succeed("course", "add", "MITx/6.002x", database, portal=site.portal) == (
        "course 'MITx/6.002x' is streaming already: 3 users there\n"
    )
    assert footprint(site.portal, database) == before


def test_dry_runs_check_and_change_nothing(site: Site) -> None:
    enroll_users(site, "A", 3)
    database = new_course(site, "A")
    before = footprint(site.portal, database)
    said = succeed("course", "add", "A", database, "--dry-run", portal=site.portal)
    name = re.search(r"pysync_a_[0-9a-f]+", said)
    assert name is not None
    assert said == (
        "dry run: course 'A' would be added, with 3 users, and publication, slot and subscription "
        f"'{name[0]}'; nothing was changed\n"
    )
    assert footprint(site.portal, database) == before
    assert_refused(
        cli("course", "add", "A", site.portal, "--dry-run", portal=site.portal), "portal"
    )
    succeed("course", "add", "A", database, portal=site.portal)
    before = footprint(site.portal, database)
    assert "is there already" in succeed(
        "course", "add", "A", database, "--dry-run", portal=site.portal
    )
    assert succeed("course", "remove", "A", "--dry-run", portal=site.portal) == (
        f"dry run: publication, slot and subscription '{name[0]}' and the fan-out of 3 users would "
        "be dropped; its database would keep its data and be writable; nothing was changed\n"
    )
    assert footprint(site.portal, database) == before
    assert slots(site) == [name[0]]


def test_ids_are_any_text(site: Site) -> None:
    names = []
    for course_id in IDS:
        database = new_course(site, course_id)
        assert succeed("course", "add", "--", course_id, database, portal=site.portal) == (
            f"course '{course_id}' added: 0 users there\n"
        )
        enroll(site, insert_user(site, f"user of {course_id}"[:150]), course_id)
        succeed("wait", "--", course_id, portal=site.portal)
        assert_live_rows(site, course_id)
        course = site.course(course_id)
        assert course.execute("select count(*) from auth_user").fetchone() == (1,)
        assert [*courses_of("status", "--", course_id, portal=site.portal)] == [course_id]
        names.append(site.one("select replication_name from pysync.course"))
        assert slots(site) == names[-1:]
        assert succeed("course", "remove", "--yes", "--", course_id, portal=site.portal) == (
            f"course '{course_id}' removed: its database keeps its data and is writable\n"
        )
        assert slots(site) == []
    assert len(set(names)) == len(IDS)
    assert all(re.fullmatch(r"[a-z0-9_]{1,63}", name) for name in names)
    assert "mitx_6_002x_2012_fall" in names[0]


def test_one_server_can_be_portal_and_course(site: Site) -> None:
    enroll_users(site, "A", 3)
    database = new_course(site, "A", site.portal_server)
    succeed("course", "add", "A", database, portal=site.portal)
    assert_whole(site, "A")


@pytest.mark.oldest_and_newest("how the first copy meets the stream")
def test_the_first_copy_misses_nothing_that_is_written_meanwhile(site: Site) -> None:
    enroll_users(site, "A", 2000)
    database = new_course(site, "A")
    done = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        number = 0
        try:
            while not done.is_set():
                number += 1
                user_id = insert_user(site, f"late{number}")
                enroll(site, user_id, "A")
                site.execute("update auth_user set email = 'e' || id where id = %s", number)
                site.execute(
                    "delete from student_courseenrollment where user_id = %s", 2 * number + 100
                )
        except BaseException as failure:  # noqa: BLE001 - the main thread raises it
            failures.append(failure)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = cli("course", "add", "A", database, portal=site.portal)
    finally:
        done.set()
        writer.join()
    assert not failures
    assert result.returncode == 0, result.stderr
    assert_whole(site, "A")
    assert site.one("select count(*) from auth_user where username like 'late%%'") > 0


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start commands that a test is going to interrupt; none outlives the test."""
    started: list[Fork] = []

    def start(*arguments: str) -> Fork:
        started.append(launch(*arguments, portal=site.portal))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


# Steps at which 'course add A' can be held until a test has interrupted it.


def await_blocked(site: Site, query: str) -> None:
    """Wait until pysync waits for a lock on the portal."""
    eventually(
        lambda: site.execute(
            "select true from pg_stat_activity where application_name = 'pysync'"
            " and datname = current_database() and wait_event_type = 'Lock' and query ~ %s",
            query,
        )
    )


@contextmanager
def held_backfill(site: Site, start: Start) -> Iterator[Fork]:
    """Hold it where it copies members: another transaction has written one of them."""
    application = site.connect()
    application.execute("begin")
    application.execute("update auth_user set email = 'held' where username = 'user1'")
    process = start("course", "add", "A", site.databases["A"])
    await_blocked(site, "refresh materialized view")
    yield process
    application.execute("commit")


@contextmanager
def held_slot(site: Site, start: Start) -> Iterator[Fork]:
    """Hold it where it creates the slot: an older transaction hasn't ended."""
    application = site.connect()
    application.execute("begin")
    application.execute("insert into auth_user (username, password) values ('held', '')")
    process = start("course", "add", "A", site.databases["A"])
    await_blocked(site, "CREATE_REPLICATION_SLOT")
    yield process
    application.execute("commit")


@contextmanager
def held_copy(site: Site, start: Start) -> Iterator[Fork]:
    """Hold it where tables are copied: another session is about to take a key of theirs."""
    session = site.course("A")
    with held_slot(site, start) as process:
        session.execute("begin")
        session.execute("set local session_replication_role = replica")
        session.execute(
            "insert into course.auth_user (id, course_id, username, password)"
            " values (1, 'A', 'user1', '')"
        )
    eventually(
        lambda: session.execute(
            "select true from pg_locks where not granted"
            " and transactionid = pg_current_xact_id()::xid"
        ).fetchall()
    )
    yield process
    session.execute("rollback")


Hold = Callable[[Site, Start], AbstractContextManager[Fork]]
HOLDS = pytest.mark.parametrize(
    "hold", [held_backfill, held_slot, held_copy], ids=["backfill", "slot", "copy"]
)


@HOLDS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_a_run_that_is_interrupted_is_finished_by_the_next(
    site: Site, start: Start, hold: Hold, number: signal.Signals
) -> None:
    enroll_users(site, "A", 3)
    database = new_course(site, "A")
    with hold(site, start) as process:
        process.send_signal(number)
        _, said = process.communicate()
    if number is signal.SIGINT:
        assert process.returncode == 130, said
        assert "Traceback" not in said
        if hold is not held_copy:
            await_no_slot(site)
    else:
        assert process.returncode == -signal.SIGKILL
    result = cli("course", "add", "A", database, portal=site.portal)
    assert result.returncode == 0, result.stderr
    assert "3 users there" in result.stdout
    assert_whole(site, "A")


def test_an_interrupted_run_says_how_to_go_on(site: Site, start: Start) -> None:
    new_course(site, "A")
    with held_slot(site, start) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1] == (
        "pysync: interrupted; the same command goes on where it stopped"
    )


def test_a_long_transaction_on_the_portal_delays_a_course_and_breaks_nothing(
    site: Site, start: Start
) -> None:
    enroll_users(site, "A", 3)
    new_course(site, "A")
    with held_slot(site, start) as process:
        found = courses_of("status", portal=site.portal)["A"]
        assert found["state"] in ("incomplete", "paused")
        assert "course add" in found["remedy"]
        assert process.poll() is None
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "course 'A' added: 3 users there\n"), err
    assert_whole(site, "A")


def end_backend(site: Site, conninfo: str, function: str) -> None:
    """Cancel or terminate what pysync does in a database, as an administrator would."""
    with site.connect(conninfo) as session:
        ended = session.execute(
            f"select {function}(pid) from pg_stat_activity"
            " where application_name = 'pysync' and datname = current_database()"
        ).fetchall()
        assert ended


@pytest.mark.parametrize(
    ("hold", "where", "function"),
    [
        (held_backfill, "portal", "pg_cancel_backend"),
        (held_slot, "portal", "pg_cancel_backend"),
        (held_slot, "portal", "pg_terminate_backend"),
        (held_slot, "course", "pg_terminate_backend"),
        (held_copy, "portal", "pg_terminate_backend"),
        (held_copy, "course", "pg_terminate_backend"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_run_that_loses_a_server_says_so_and_is_finished_by_the_next(
    site: Site, start: Start, hold: Hold, where: str, function: str
) -> None:
    enroll_users(site, "A", 3)
    database = new_course(site, "A")
    with hold(site, start) as process:
        end_backend(site, site.portal if where == "portal" else database, function)
    out, err = process.communicate()
    assert "Traceback" not in err, err
    assert (process.returncode, out) == (1, "")
    # What is to be run, if whoever was waited for is still there, follows on lines of its own.
    assert len([line for line in err.splitlines() if line.startswith("pysync: ")]) == 1, err
    if hold is not held_copy:
        await_no_slot(site)
    result = cli("course", "add", "A", database, portal=site.portal)
    assert result.returncode == 0, result.stderr
    assert_whole(site, "A")


@pytest.mark.oldest_and_newest("what a failing worker leaves behind")
def test_a_first_copy_that_fails_leaves_neither_slot_nor_subscription(
    site: Site, start: Start
) -> None:
    enroll_users(site, "A", 3)
    database = new_course(site, "A")
    course = site.course("A")
    with held_slot(site, start) as process:
        course.execute("alter table course.auth_user add constraint no check (username <> 'user2')")
    out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert err.splitlines()[-3:] == [
        "pysync: course 'A' can't be copied: the first copy's insert on course.auth_user fails in "
        'the course database with 23514: “new row for relation "auth_user" violates check '
        'constraint "no"”; run in the course database:',
        '    set search_path = pg_catalog, pg_temp; alter table "course"."auth_user" drop constraint "no"',
        "  and run the command again",
    ]
    await_no_slot(site)
    assert course.execute(OWN_SUBSCRIPTIONS).fetchall() == []
    assert courses_of("status", portal=site.portal)["A"]["state"] == "incomplete"
    course.execute("alter table course.auth_user drop constraint no")
    succeed("course", "add", "A", database, portal=site.portal)
    assert_whole(site, "A")


def test_one_run_at_a_time_works_on_a_course(site: Site, start: Start) -> None:
    enroll_users(site, "A", 1)
    database = new_course(site, "A")
    with held_slot(site, start) as process:
        for arguments in (("add", "A", database), ("remove", "A", "--yes")):
            assert_refused(
                cli("course", *arguments, portal=site.portal), "course 'A'", "another process"
            )
    process.communicate()
    assert process.returncode == 0


def test_two_courses_that_race_for_a_database_do_not_both_get_it(site: Site, start: Start) -> None:
    enroll_users(site, "A", 3)
    database = new_course(site, "A")
    site.databases["B"] = database
    with site.connect(database) as session:
        # What migrations of one database take turns with: both runs have passed their checks then.
        session.execute("begin")
        session.execute("create schema course")
        processes = {
            course_id: start("course", "add", course_id, database) for course_id in ("A", "B")
        }
        eventually(
            lambda: session.execute(
                "select true from pg_locks where locktype = 'transactionid' and not granted"
                " and transactionid = pg_current_xact_id()::xid having count(*) = 2"
            ).fetchall()
        )
        session.execute("rollback")
    said = {course_id: process.communicate() for course_id, process in processes.items()}
    statuses = {course_id: process.wait() for course_id, process in processes.items()}
    assert sorted(statuses.values()) == [0, 1], said
    (winner,) = (course_id for course_id in statuses if statuses[course_id] == 0)
    (loser,) = (course_id for course_id in statuses if statuses[course_id] == 1)
    assert f"belongs to course '{winner}'" in said[loser][1]
    assert [*courses_of("course", "list", portal=site.portal)] == [winner]
    assert_whole(site, winner)


def test_a_new_way_to_the_portal_is_used_from_then_on(site: Site) -> None:
    site.add("A")
    alias = site.portal.replace("127.0.0.1", "localhost")
    succeed(
        "course", "add", "A", site.databases["A"], "--portal-conninfo", alias, portal=site.portal
    )
    assert "localhost" in site.one("select portal_conninfo from pysync.course")
    assert "localhost" in str(site.course("A").execute(OWN_SUBSCRIPTIONS).fetchall())
    site.wait("A")


def test_a_removed_course_comes_back_in_a_new_database_only(site: Site) -> None:
    enroll_users(site, "A", 3)
    old = new_course(site, "A")
    succeed("course", "add", "A", old, portal=site.portal)
    succeed("course", "remove", "A", "--yes", portal=site.portal)
    before = footprint(site.portal, old)
    assert_refused(
        cli("course", "add", "A", old, portal=site.portal), "holds users", "empty database"
    )
    assert footprint(site.portal, old) == before
    succeed("course", "add", "A", new_course(site, "A"), portal=site.portal)
    assert_whole(site, "A")


def test_a_course_that_lost_its_slot_is_not_patched_up(site: Site) -> None:
    site.add("A")
    name = site.one("select replication_name from pysync.course")
    site.course("A").execute(f"alter subscription {name} disable")
    with closing(site.connect()) as portal:
        drop_slot(portal, name)
    result = cli("course", "add", "A", site.databases["A"], portal=site.portal)
    assert result.returncode == 1
    assert "has lost its slot" in result.stderr.splitlines()[-2]
    await_no_slot(site)


def test_ids_in_remedies_can_be_pasted_into_a_shell(site: Site) -> None:
    course_id = "it's $HOME `id`"
    database = site.new_database()
    site.execute(
        "insert into pysync.course (course_id, replication_name, conninfo, portal_conninfo,"
        " replication_role) values (%s, 'unused', %s, '', '')",
        course_id,
        site.new_database(),
    )
    said = cli("course", "add", course_id, database, portal=site.portal).stderr
    remedy = re.search(r"run:\n    pysync (course remove .*)\n  first", said)
    assert remedy, said
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {remedy[1]}"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert words[:3] == ["course", "remove", course_id]
