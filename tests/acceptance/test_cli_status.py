"""``pysync status``, ``course list`` and ``wait``: each state, made for real."""

from __future__ import annotations

import re
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pysync.replication import polling
from pysync.watching.status import State, status
from pysync.watching.status.document import schema
from tests.acceptance.test_cli_course_add import enroll_users, held_copy, new_course, start
from tests.acceptance.test_cli_process import (
    OwnCluster,
    assert_refused,
    cli,
    courses_of,
    read_json,
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

pytestmark = pytest.mark.newest("times and texts of ours")

__all__ = ["start"]

SCHEMA = jsonschema.Draft202012Validator(
    schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


@pytest.fixture(scope="module")
def own_server(major: int, folder: Path) -> Iterator[OwnCluster]:
    """A course server that tests stop and freeze."""
    cluster = OwnCluster.start(major, folder, "own")
    yield cluster
    cluster.server.stop()


def replication_name(site: Site, course_id: str) -> str:
    return str(
        site.one("select replication_name from pysync.course where course_id = %s", course_id)
    )


def alter_subscription(site: Site, course_id: str, action: str) -> None:
    site.course(course_id).execute(
        sql.SQL("alter subscription {} " + action).format(
            sql.Identifier(replication_name(site, course_id))
        )
    )


def state_of(site: Site, course_id: str) -> str:
    return str(courses_of("status", course_id, portal=site.portal)[course_id]["state"])


def test_no_courses_is_no_error(site: Site) -> None:
    for command in (("status",), ("course", "list")):
        assert succeed(*command, portal=site.portal) == "no courses registered\n"
        document = read_json(*command, portal=site.portal)
        SCHEMA.validate(document)
        assert (document["courses"], document["orphans"]) == ([], [])


@pytest.mark.also_granted("the whole command")
@pytest.mark.oldest_and_newest("the columns that are read, version by version")
def test_a_streaming_course_is_reported_with_raw_numbers(site: Site) -> None:
    site.add("B")
    site.add("A")
    for command in ("status",), ("course", "list"):
        document = read_json(*command, portal=site.portal)
        SCHEMA.validate(document)
        assert [each["course_id"] for each in document["courses"]] == ["A", "B"]
        for each in document["courses"]:
            assert document["orphans"] == []
            assert each["state"] == "streaming"
            assert (each["cause"], each["remedy"], each["drift"]) == (None, None, [])
            assert 0 <= each["lag_seconds"] < 5
            assert (each["tables_ready"], each["tables_total"]) == (4, 4)
            assert each["slot_active"] is True
            assert (each["apply_errors"], each["sync_errors"]) == (0, 0)
            assert isinstance(each["lag_bytes"], int)
            assert isinstance(each["retained_wal_bytes"], int)
            assert 0 <= each["lag_bytes"] <= each["retained_wal_bytes"]
    assert [*courses_of("status", "B", portal=site.portal)] == ["B"]
    table = succeed("status", "A", portal=site.portal).splitlines()
    (row,) = [line.split() for line in table if line.strip().startswith("A ")]
    assert row[:4] == ["A", "streaming", "4/4", "active"]
    assert row[5] in ("B", "KiB", "MiB")
    assert row[7] == "s"
    assert row[-1] == "0"


@pytest.mark.newest("states put together by us; each is made on every version by the faults' tests")
def test_each_state_is_told_from_the_others(site: Site) -> None:
    for course_id in ("streaming", "paused", "lost", "drifted", "orphan", "half", "unknown"):
        site.add(course_id)

    alter_subscription(site, "paused", "disable")

    alter_subscription(site, "lost", "disable")
    with site.connect() as portal:
        drop_slot(portal, replication_name(site, "lost"))

    site.course("drifted").execute("create table public.auth_user (id int)")
    site.course("drifted").execute("create view public.auth_userprofile as select 1")

    name = replication_name(site, "orphan")
    for action in ("disable", "set (slot_name = none)"):
        alter_subscription(site, "orphan", action)
    site.course("orphan").execute(sql.SQL("drop subscription {}").format(sql.Identifier(name)))

    site.execute("update pysync.course set fans_out = false where course_id = 'half'")

    site.execute(
        "update pysync.course set conninfo = %s where course_id = 'unknown'",
        make_conninfo(site.databases["unknown"], dbname="nobody_made_it"),
    )

    found = courses_of("status", portal=site.portal)
    assert {course_id: each["state"] for course_id, each in found.items()} == {
        "streaming": "streaming",
        "paused": "paused",
        "lost": "lost",
        "drifted": "drifted",
        "orphan": "orphaned",
        "half": "incomplete",
        "unknown": "unreachable",
    }
    for course_id, words in {
        "paused": ("subscription is disabled",),
        "lost": ("slot is missing", "changes are missing"),
        "drifted": ("critical", "public.auth_user", "1 more"),
        "orphan": ("subscription is missing", "pysync resync orphan"),
        "half": ("removal was interrupted", "course remove"),
        "unknown": ("nobody_made_it", "does not exist"),
    }.items():
        for word in words:
            assert word in f"{found[course_id]['cause']}; {found[course_id]['remedy']}"
    assert found["lost"]["slot_active"] is None
    assert found["lost"]["lag_bytes"] is None
    assert found["paused"]["slot_active"] is False
    assert found["unknown"]["tables_total"] is None
    assert found["unknown"]["slot_active"] is True
    assert found["unknown"]["retained_wal_bytes"] >= 0

    shown = succeed("status", portal=site.portal)
    for course_id, each in found.items():
        assert f" {course_id} " in shown
        if each["cause"]:
            assert f"{course_id}: {each['cause']}; " in shown
            for command in each["commands"]:
                assert f":\n    {command}\n" in shown

    # What a course retains grows while it is paused, and goes once it isn't.
    for number in range(20):
        enroll(site, insert_user(site, f"user{number}"), "paused")
    later = courses_of("status", "paused", portal=site.portal)["paused"]
    assert later["lag_bytes"] > found["paused"]["lag_bytes"]
    assert later["retained_wal_bytes"] > found["paused"]["retained_wal_bytes"]
    alter_subscription(site, "paused", "enable")
    site.wait("paused")
    assert_live_rows(site, "paused")
    eventually(lambda: state_of(site, "paused") == "streaming")


def test_a_course_being_copied_is_reported_so(site: Site, start: object) -> None:
    enroll_users(site, "A", 3)
    new_course(site, "A")
    with held_copy(site, start) as process:  # type: ignore[arg-type]
        found = eventually(
            lambda: (
                each
                if (each := courses_of("status", portal=site.portal)["A"])["tables_ready"]
                else None
            )
        )
        assert found["state"] == "copying"
        assert 0 < found["tables_ready"] < found["tables_total"] == 4
        assert 0 < found["copied_percent"] < 100
    process.communicate()
    assert state_of(site, "A") == "streaming"


def subscribe_by_hand(site: Site, course_id: str) -> None:
    """Make the subscription anew as one does who doesn't know: with the default to copy."""
    course, name = site.course(course_id), replication_name(site, course_id)
    ((portal,),) = course.execute(
        "select subconninfo from pg_subscription where subname = %s", (name,)
    ).fetchall()
    for action in ("disable", "set (slot_name = none)"):
        alter_subscription(site, course_id, action)
    course.execute(sql.SQL("drop subscription {}").format(sql.Identifier(name)))
    course.execute(
        sql.SQL(
            "create subscription {0} connection {1} publication {0} with (create_slot = false)"
        ).format(sql.Identifier(name), sql.Literal(portal))
    )


def stuck(site: Site, course_id: str) -> dict[str, Any]:
    """Wait until a course is stuck, and return what is said of it."""

    def found() -> dict[str, Any] | None:
        each = courses_of("status", portal=site.portal)[course_id]
        return each if each["state"] == "stuck" else None

    told: dict[str, Any] = eventually(found)
    return told


def test_a_first_copy_that_meets_rows_is_stuck_until_mended(site: Site) -> None:
    for number in range(3):
        enroll(site, insert_user(site, f"user{number}"), "A")
    site.add("A")
    subscribe_by_hand(site, "A")
    found = stuck(site, "A")
    assert found["sync_errors"] > 0
    assert found["tables_ready"] < found["tables_total"]
    assert re.fullmatch(
        r"\d+ tries to copy [a-z_, ]+ failed: the first copy's insert on course\.\w+ fails in the"
        r' course database with 23505: “duplicate key value violates unique constraint "\w+":'
        r" Key \(\w+\)=\(\w+\) already exists”",
        found["cause"],
    )
    assert found["remedy"].endswith(", or run 'pysync resync A'")
    succeed("resync", "A", portal=site.portal)
    assert state_of(site, "A") == "streaming"
    assert_live_rows(site, "A")


@pytest.fixture
def reader(portal_server: Cluster) -> Iterator[str]:
    """A replication role; to be asked for before the site, whose grants go first."""
    with psycopg.connect(portal_server.conninfo(), autocommit=True) as connection:
        connection.execute("create role reader login replication")
        yield "reader"
        connection.execute("drop role reader")


@pytest.mark.oldest_and_newest(
    "15 copies as the subscription's owner, later versions as the table's"
)
def test_a_first_copy_that_may_not_read_is_stuck_until_mended(reader: str, site: Site) -> None:
    enroll(site, insert_user(site, "ada"), "A")
    site.databases["A"] = site.new_database()
    succeed(
        *("course", "add", "A", site.databases["A"]),
        *("--portal-conninfo", make_conninfo(site.portal, user=reader)),
        portal=site.portal,
    )
    site.course("A").execute(
        "set session_replication_role = replica; delete from course.student_courseenrollment;"
        " delete from course.auth_user; delete from course.mark"
    )
    site.execute("revoke select on course.auth_user from reader")
    subscribe_by_hand(site, "A")
    found = stuck(site, "A")
    assert "role 'reader' can't read course.auth_user on the portal" in found["cause"]
    assert found["remedy"].startswith("run on the portal: ")
    (statements,) = found["commands"]
    site.execute(statements)
    eventually(lambda: state_of(site, "A") in ("drifted", "streaming"))
    # On 15 one made by hand also has more rights than it should have.
    for command in courses_of("status", portal=site.portal)["A"]["commands"]:
        succeed(*shlex.split(command)[1:], portal=site.portal)
    eventually(lambda: state_of(site, "A") == "streaming")
    assert_live_rows(site, "A")


@pytest.mark.also_granted("the whole command")
@pytest.mark.oldest_and_newest("errors as each version counts them")
def test_a_course_whose_worker_fails_is_stuck_until_mended(site: Site) -> None:
    site.add("A")
    course = site.course("A")
    course.execute("alter table course.auth_user add constraint no check (username <> 'ada')")
    enroll(site, insert_user(site, "ada"), "A")
    found = eventually(
        lambda: (
            each
            if (each := courses_of("status", portal=site.portal)["A"])["apply_errors"] > 1
            else None
        )
    )
    assert found["sync_errors"] == 0
    # A worker that fails is connected again and again for a moment: it must not pass for a healthy
    # one then, and has the slot that the cause is looked for in.
    for _ in range(3):
        (report,) = status(site.portal)
        assert report.state is State.STUCK
        assert report.cause is not None
        assert 'violates check constraint "no"' in report.cause
        statements = (
            "set search_path = pg_catalog, pg_temp;"
            ' alter table "course"."auth_user" drop constraint "no"'
        )
        assert report.commands == (statements,)
        assert report.remedy == f"run in the course database: {statements}"
    assert_refused(cli("wait", "A", "--timeout", "0.5", portal=site.portal), "course 'A' is behind")
    course.execute("alter table course.auth_user drop constraint no")
    succeed("wait", "A", portal=site.portal)
    assert_live_rows(site, "A")
    eventually(lambda: state_of(site, "A") == "streaming")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are accepted, and never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def timed_status(site: Site) -> tuple[float, dict[str, str]]:
    """Return how long a report took, without the start of a process, and what it said."""
    began = time.monotonic()
    succeed("--version")
    start_seconds = time.monotonic() - began
    began = time.monotonic()
    found = courses_of("status", portal=site.portal)
    return time.monotonic() - began - start_seconds, {k: v["state"] for k, v in found.items()}


def test_courses_that_do_not_answer_do_not_keep_the_others_waiting(
    site: Site, own_server: OwnCluster, silent_port: int
) -> None:
    site.add("here")
    site.add("silent")
    for course_id in ("one", "other"):
        site.add(course_id, site.new_database(own_server))
    site.execute(
        "update pysync.course set conninfo = %s where course_id = 'silent'",
        make_conninfo(site.databases["silent"], port=silent_port),
    )
    expected = {
        "here": "streaming",
        "silent": "unreachable",
        "one": "unreachable",
        "other": "unreachable",
    }
    with own_server.frozen():
        seconds, states = timed_status(site)
        assert states == expected
        assert seconds < 3
    own_server.server.stop()
    seconds, states = timed_status(site)
    assert states == expected
    assert seconds < 3
    result = cli("migrate", "status", portal=site.portal)
    assert result.returncode == 0
    assert "unknown" in result.stdout
    own_server.server.start()
    eventually(lambda: state_of(site, "one") == "streaming")


def test_one_session_tells_of_a_healthy_course_among_many(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the one by which the first two are asked of their server's other courses."""
    monkeypatch.setattr(polling, "CONNECTIONS_PER_SERVER", 1)
    courses = ("A", "B", "C")
    for course_id in courses:
        site.add(course_id)
    server = site.connect(site.course_server.conninfo())
    names = [str(conninfo_to_dict(site.databases[each])["dbname"]) for each in courses]
    ours = "select from pg_stat_activity where application_name = 'pysync' and datname = any (%s)"
    count = "select sessions from pg_stat_database where datname = any (%s) order by datname"

    def sessions() -> list[int]:
        eventually(lambda: not server.execute(ours, (names,)).fetchall())
        return [number for (number,) in server.execute(count, (names,)).fetchall()]

    def told_in_one_each() -> bool:
        before = sessions()
        assert {each.state for each in status(site.portal)} == {State.STREAMING}
        used = [now - then for now, then in zip(sessions(), before, strict=True)]
        return (
            sum(used) == len(courses) + 2
        )  # more where others use the machine, and marks are late

    eventually(told_in_one_each)


# wait


@pytest.mark.also_granted("the whole command")
def test_wait_ends_once_everything_is_there(site: Site) -> None:
    site.add("A")
    enroll_users(site, "A", 5000)
    result = run_cli("wait", "A", portal=site.portal)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    course = site.course("A")
    assert course.execute("select count(*) from auth_user").fetchone() == (5000,)


@pytest.fixture(scope="module")
def paused(portal_server: Cluster, course_server: Cluster, portal_template: str) -> Iterator[Site]:
    """A course whose subscription is disabled, and stays so."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    site.add("A")
    alter_subscription(site, "A", "disable")
    yield site
    site.close()


def test_wait_gives_up_at_its_timeout_with_a_clear_line(paused: Site) -> None:
    site = paused
    for timeout in ("0", "1.5"):
        began = time.monotonic()
        result = cli("wait", "A", "--timeout", timeout, portal=site.portal)
        assert float(timeout) <= time.monotonic() - began < float(timeout) + 3
        assert_refused(result, "course 'A' is behind", "run:\n    pysync status\n")
    alter_subscription(site, "A", "enable")
    succeed("wait", "A", portal=site.portal)
    alter_subscription(site, "A", "disable")


def test_wait_names_the_timeout_it_was_given(paused: Site) -> None:
    said = cli("wait", "A", "--timeout", "0.5", portal=paused.portal).stderr
    assert "after 0.5 s" in said


def test_wait_keeps_to_its_timeout_if_nobody_answers(site: Site, silent_port: int) -> None:
    site.add("A")
    site.execute(
        "update pysync.course set conninfo = %s",
        make_conninfo(site.databases["A"], port=silent_port),
    )
    began = time.monotonic()
    assert_refused(cli("wait", "A", "--timeout", "1", portal=site.portal), "A")
    assert time.monotonic() - began < 1 + 2


@pytest.mark.parametrize("timeout", ["nan", "inf", "1e300"])
def test_wait_with_a_timeout_that_is_no_time_is_refused(paused: Site, timeout: str) -> None:
    result = cli("wait", "A", "--timeout", timeout, portal=paused.portal, timeout=10)
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr
