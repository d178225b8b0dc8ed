"""A server dies and its standby takes over: courses go on by themselves, or are told to be lost."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pysync.demo.servers import Server
from pysync.findings import Finding
from pysync.texts import Text
from pysync.watching.doctor import examine
from pysync.watching.doctor.standbys import ON_STANDBY
from pysync.watching.serving.page import live_data
from pysync.watching.serving.watch import Known
from pysync.watching.status import Level, Report, report
from pysync.watching.status.metrics import prometheus_text
from pysync.watching.status.nagios import check
from tests.acceptance.test_cli_process import (
    OwnCluster,
    assert_refused,
    cli,
    courses_of,
    own_servers,
    succeed,
)
from tests.acceptance.test_cli_status import alter_subscription, replication_name
from tests.acceptance.test_connecting import shell_words
from tests.acceptance.test_crash import COURSES, Writer, assert_whole
from tests.acceptance.test_serve import monitoring_file
from tests.conftest import INSTALLATIONS
from tests.servers import standby_of
from tests.support import Cluster, Site, assert_live_rows, eventually

LOG = logging.getLogger(__name__)

END_WORKERS = "select pg_terminate_backend(pid) from pg_stat_subscription where pid is not null"
ACTIVE_SLOTS = "select count(*) from pg_replication_slots where active and slot_type = 'logical'"
SYNCHRONIZED = "select count(*) from pg_replication_slots where synced and not temporary"
WAITING = "select count(*) from pg_stat_activity where wait_event = 'WaitForStandbyConfirmation'"

OLD = "C"
"""A course whose own server, the oldest there is, knows nothing of slots that fail over."""

pytestmark = pytest.mark.newest("slots that fail over, of servers that are slow to start")


def execute(server: Server | Cluster, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def dbname(conninfo: str) -> str:
    return str(conninfo_to_dict(conninfo)["dbname"])


@contextmanager
def writing(site: Site) -> Iterator[list[Writer]]:
    """Have two applications write to whatever portal the site has, for the block's time."""
    writers = [Writer(site, name) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.done.set()
            writer.join()


def advance(writers: list[Writer]) -> None:
    for writer in writers:
        writer.await_progress()


def of_standbys(portal: str) -> list[Finding]:
    """Return what doctor says of the portal's standbys, and of what courses need for them."""
    words = ("standby", "fails over", "failover")
    found = [each.finding for each in examine(portal)]
    return [each for each in found if any(word in each.text for word in words)]


def follow(finding: Finding, primary: Server, standby: Server, portal: str) -> None:
    """Do what a finding says, as it stands."""
    assert isinstance(finding.remedy, Text)
    where = primary
    for piece, is_command in finding.remedy.pieces:
        if not is_command:
            where = standby if ON_STANDBY in piece else primary
        elif piece.startswith("pysync"):
            succeed(*shell_words(piece), portal=portal)
        else:
            for statement in piece.split("; "):
                execute(where, statement)
    if not finding.commands:
        name = dbname(portal)
        assert finding.remedy == f"add dbname={name} to primary_conninfo on it, and reload it"
        execute(standby, f"alter system set primary_conninfo = '{primary.conninfo(name)}'")
        execute(standby, "select pg_reload_conf()")


def readiness(portal: str) -> dict[str, tuple[bool | None, str | None]]:
    """Return which courses would go on, and why not."""
    found = courses_of("status", portal=portal)
    return {k: (v["failover_ready"], v["failover_cause"]) for k, v in found.items()}


def assert_told(portal: str, causes: dict[str, str]) -> None:
    """Whoever watches, in whatever way, is told which courses wouldn't go on, and why."""
    told = "failover: {} would stop if the portal's server died now: {}; run 'pysync doctor'"
    alike: dict[str, list[str]] = {}
    for course, cause in causes.items():
        alike.setdefault(cause, []).append(course)
    expected = [
        told.format(f"{first} and {len(more)} more" if more else first, cause)
        for cause, (first, *more) in alike.items()
    ]
    table = succeed("status", portal=portal).splitlines()
    # A command stands alone on the line that follows.
    said = [line.replace("run:", "run 'pysync doctor'") for line in table if "failover:" in line]
    assert said == expected
    found = report(portal)
    assert [each["text"] for each in live_page_failover(found)] == expected
    level, line = check(found, {})
    assert level is (Level.WARNING if causes else Level.OK)
    assert {*re.findall("(.) streaming, no failover", line)} == {*causes}
    assert alerted(prometheus_text(found)) == {*causes}


def live_page_failover(found: Report) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = live_data(Known(5, found, time.monotonic()))["failover"]
    return shown


def alerted(metrics: str) -> set[str]:
    """Return the courses about which PysyncFailoverNotReady alerts."""
    (rule,) = re.findall("expr: (pysync_failover_ready.*)", monitoring_file("alert-rules.yml"))
    assert rule == "pysync_failover_ready == 0 and on () pysync_standbys > 0"
    assert re.search(r"^pysync_standbys 1\.0$", metrics, re.MULTILINE)
    values = re.findall(
        r'^pysync_failover_ready\{course_id="(.*)",slot_name="pysync_.*"\} (.*)$',
        metrics,
        re.MULTILINE,
    )
    assert {course for course, _ in values} == {*COURSES, OLD}
    return {course for course, value in values if float(value) == 0}


def prepare(site: Site, primary: Server, standby: Server, portal: str) -> None:
    """Do what doctor says until all courses would go on."""
    assert {each for each, _ in readiness(site.portal).values()} == {None}
    # One that was added before its servers had slots that fail over.
    alter_subscription(site, "B", "disable")
    name = replication_name(site, "B")
    busy = "select active from pg_replication_slots where slot_name = %s"
    eventually(lambda: not site.one(busy, name))
    alter_subscription(site, "B", "set (failover = false)")
    alter_subscription(site, "B", "enable")
    # Something of that name is in the way of what is to be kept on the standby.
    leftover = replication_name(site, "A")
    execute(standby, f"select pg_create_physical_replication_slot('{leftover}')")
    # As it comes with a copy of the primary's settings.
    execute(standby, "alter system set synchronized_standby_slots = 'standby'")
    execute(standby, "select pg_reload_conf()")
    causes = {
        "A": "its subscription knows no other server of the portal's",
        "B": "its slot isn't one that fails over",
        OLD: "its subscription knows no other server of the portal's",
    }
    assert readiness(portal) == {course: (False, cause) for course, cause in causes.items()}
    assert_told(portal, causes)
    seen: set[str] = set()
    while found := [each for each in of_standbys(portal) if each.text not in seen]:
        for each in found:
            seen.add(each.text)
            follow(each, primary, standby, portal)
    assert len(seen) == 11, seen

    def synchronized() -> bool:
        # It takes a slot over once that has seen who was at work when it began; else that takes long.
        execute(primary, "select pg_log_standby_snapshot()")
        return execute(standby, SYNCHRONIZED) == [(len(COURSES) + 1,)]

    eventually(synchronized, 60)
    assert set(readiness(portal).values()) == {(True, None)}
    assert_told(portal, {})
    assert of_standbys(portal) == []


@pytest.mark.timeout(240)
def test_courses_go_on_with_a_promoted_standby_of_the_portal(major: int, folder: Path) -> None:
    with own_servers(major, folder, "failover", *COURSES) as site:
        cluster = site.portal_server
        assert isinstance(cluster, OwnCluster)
        assert set(readiness(site.portal).values()) == {(False, "the portal has no standby")}
        old = OwnCluster.start(min(INSTALLATIONS), folder, "failover-old")
        site.add(OLD, old.create())
        with standby_of(cluster.server, folder, "failover-s") as standby:
            with writing(site) as writers:
                survive(site, cluster, standby, writers)
            assert_whole(site, writers)
        old.server.stop("immediate")


def survive(site: Site, cluster: OwnCluster, standby: Server, writers: list[Writer]) -> None:
    primary, ports = cluster.server, f"{cluster.server.port},{standby.port}"
    # Which of them is to be worked on needn't be said.
    portal = make_conninfo(site.portal, host="127.0.0.1,127.0.0.1", port=ports)
    prepare(site, primary, standby, portal)
    # What is committed is on the standby before an application hears of it.
    execute(primary, "alter system set synchronous_standby_names = '*'")
    execute(primary, "select pg_reload_conf()")
    site.portal = make_conninfo(portal, target_session_attrs="read-write")
    advance(writers)
    enroll_in_old(site, "min")

    cluster.kill()
    execute(standby, "select pg_promote()")
    promoted = time.monotonic()
    site.wait()
    LOG.info("streaming %.2f s after the promotion", time.monotonic() - promoted)
    advance(writers)
    enroll_in_old(site, "max")
    site.wait(OLD)
    assert_live_rows(site, OLD)

    # The old primary comes back as it was, and is the first that is asked.
    primary.start()
    for command in (("status",), ("resync", "A"), ("user", "count"), ("migrate",)):
        assert_refused(
            cli(*command, portal=portal),
            f"127.0.0.1:{primary.port}', on timeline 1,",
            f"127.0.0.1:{standby.port}', on timeline 2",
            "stop the one on the earlier timeline",
        )
    meet(site, primary, standby, portal)
    primary.stop("immediate")
    told = eventually(lambda: courses_of("status", portal=portal)["A"], 30)
    assert (told["state"], "pysync resync A" in told["remedy"]) == ("lost", True)
    succeed("resync", "A", portal=portal)
    advance(writers)


def enroll_in_old(site: Site, which: str) -> None:
    site.execute(
        f"insert into student_courseenrollment (user_id, course_id) select {which}(user_id), '{OLD}'"
        " from student_courseenrollment where course_id = 'A'"
    )


def meet(site: Site, primary: Server, standby: Server, portal: str) -> None:
    """Have courses connect to the old primary, while somebody writes there."""
    (ahead,) = execute(standby, "select pg_current_wal_lsn()")[0]
    with psycopg.connect(primary.conninfo(dbname(portal)), autocommit=True) as old:
        old.execute("set synchronous_commit = local")

        def write(name: str) -> None:
            old.execute(
                "update auth_user set last_name = %s where id ="
                " (select min(user_id) from student_courseenrollment where course_id = 'A')",
                (name,),
            )
            old.execute("select pysync.mark('A')")

        # They ask for what comes after all that they have, which is only then written there.
        while old.execute(
            "select pg_current_wal_lsn() < %s::pg_lsn + 16777216", (ahead,)
        ).fetchone() == (True,):
            old.execute("select pg_switch_wal() from pg_logical_emit_message(false, '', '')")
        execute(site.course_server, END_WORKERS)
        eventually(lambda: old.execute(ACTIVE_SLOTS).fetchone() == (len(COURSES),))
        write("kept")
        # It waits for a standby that is none any more, and sends nothing.
        eventually(lambda: old.execute(WAITING).fetchone() == (len(COURSES),))
        assert not has(site, "kept")
        # Where it doesn't wait, the course gets what the portal hasn't, and that is told.
        old.execute("alter system set synchronized_standby_slots = ''")
        old.execute("select pg_reload_conf()")
        write("sent")
        eventually(lambda: has(site, "sent"))


def has(site: Site, name: str) -> bool:
    query = "select count(*) from auth_user where last_name = %s"
    return site.course("A").execute(query, (name,)).fetchone() == (1,)


@pytest.mark.timeout(180)
def test_a_course_whose_server_fails_over_to_a_standby_that_lags_is_told(
    major: int, folder: Path
) -> None:
    with own_servers(major, folder, "lagging", *COURSES) as site:
        cluster = site.course_server
        assert isinstance(cluster, OwnCluster)
        with standby_of(cluster.server, folder, "lagging-s") as standby:
            standby.stop()
            with writing(site) as writers:
                advance(writers)
                site.wait()
                # What it has confirmed the portal keeps for nobody.
                succeed("status", portal=site.portal)
                cluster.kill()
                standby.port = cluster.server.port
                standby.start()
                execute(standby, "select pg_promote()")
                eventually(lambda: are_lost(site))
                for course_id in COURSES:
                    succeed("resync", course_id, portal=site.portal)
            assert_whole(site, writers)


def are_lost(site: Site) -> bool:
    """Return whether all courses are told to be lost; until then none is called well."""
    found = courses_of("status", portal=site.portal)
    for course_id, each in found.items():
        assert each["state"] != "streaming"
        assert each["state"] != "lost" or f"pysync resync {course_id}" in each["remedy"]
    return {each["state"] for each in found.values()} == {"lost"}
