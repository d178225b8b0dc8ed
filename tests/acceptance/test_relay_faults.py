"""Relays that die, are replaced or lose changes, and courses that move between them and the portal."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from psycopg import IsolationLevel, errors

from pysync.lifecycle.reroute import prepare, reroute
from pysync.texts import Text
from pysync.types import CourseId, relay_id
from pysync.watching.status import status
from tests.acceptance.test_cli_process import OwnCluster, cli, courses_of, succeed
from tests.acceptance.test_cli_resync import assert_equal_to_the_fan_out
from tests.acceptance.test_cli_resync_killed import KilledError, Mortal
from tests.acceptance.test_cli_status import replication_name
from tests.acceptance.test_relays import add, add_relay, states
from tests.support import (
    Rows,
    Silent,
    Site,
    assert_live_rows,
    drop_slot,
    enroll,
    eventually,
    insert_user,
)

pytestmark = pytest.mark.oldest_and_newest("what slots, subscriptions and workers are like")

NORTH = "relay:north"
REPLICATED = ("auth_user", "auth_userprofile", "student_courseenrollment")
HARMLESS = ("streaming", "catching-up", "paused", "incomplete")
PAUSE_SECONDS = 0.1
"""Between two transactions of one application: a server is to be at work, not out of breath."""

REPORTS_SECONDS = 0.1
"""Between two reports of somebody who watches."""

MEMBERS = 40
"""Users who are in all courses all the time; the first one's last name is a number that grows."""


_runs = itertools.count(1)


class Applications:
    """Four of the portal's write, two at each isolation level; one of each course's reads."""

    def __init__(self, site: Site, *course_ids: str) -> None:
        self.site, self.course_ids = site, course_ids
        self.done = threading.Event()
        self.failures: list[BaseException] = []
        self.progress: dict[str, int] = {}
        self.run_number = next(_runs)
        levels = (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ) * 2
        jobs: list[tuple[str, Callable[[str, Any], None], Any]]
        jobs = [(f"writer{n}", self.write, each) for n, each in enumerate(levels)]
        jobs += [(f"reader of {each}", self.read, each) for each in course_ids]
        self.threads = [threading.Thread(target=self.run, args=job) for job in jobs]

    def run(self, name: str, job: Callable[[str, Any], None], argument: Any) -> None:
        self.progress[name] = 0
        try:
            job(name, argument)
        except BaseException as failure:  # noqa: BLE001 - the main thread raises it
            self.failures.append(failure)

    def write(self, name: str, level: IsolationLevel) -> None:
        chosen, prefix = random.Random(name), f"{name}-{self.run_number}-"
        with psycopg.connect(self.site.portal) as portal:
            portal.isolation_level = level
            while not self.done.wait(PAUSE_SECONDS):
                n = self.progress[name] = self.progress[name] + 1
                with suppress(errors.SerializationFailure), portal.transaction():
                    if name == "writer0":
                        portal.execute(
                            "update auth_user set last_name = last_name::int + 1"
                            " where username = 'member0'"
                        )
                    self.change(portal, f"{prefix}{n}", f"{prefix}{n // 2}", chosen)

    def change(
        self, portal: psycopg.Connection[Any], new: str, old: str, chosen: random.Random
    ) -> None:
        portal.execute("insert into auth_user (username, password) values (%s, '')", (new,))
        portal.execute(
            "insert into student_courseenrollment (user_id, course_id)"
            " select id, unnest(%s::text[]) from auth_user where username = %s",
            (chosen.sample(self.course_ids, chosen.randint(1, len(self.course_ids))), new),
        )
        portal.execute(
            "update auth_user set email = %s where username = %s",
            (f"{new}@example.org", f"member{chosen.randint(1, MEMBERS - 1)}"),
        )
        portal.execute(
            "delete from student_courseenrollment where course_id = %s and user_id ="
            " (select id from auth_user where username = %s)",
            (chosen.choice(self.course_ids), old),
        )

    def read(self, name: str, course_id: str) -> None:
        """See that nothing is ever missing, and nothing older than what was there before."""
        before = (0, 0)
        with psycopg.connect(self.site.databases[course_id], autocommit=True) as course:
            course.execute("set lock_timeout = '500ms'; set statement_timeout = '5s'")
            while not self.done.wait(PAUSE_SECONDS):
                self.progress[name] += 1
                ((members, number, mark),) = course.execute(
                    "select count(*),"
                    " max(last_name::int) filter (where username = 'member0'),"
                    " (select max(number) from course.mark)"
                    " from auth_user where username like 'member%'"
                ).fetchall()
                assert members == MEMBERS
                assert (number >= before[0], mark >= before[1]) == (True, True), (number, mark)
                before = number, mark

    def await_progress(self) -> None:
        before = dict(self.progress)
        eventually(
            lambda: (
                self.failures or all(now > before[each] + 5 for each, now in self.progress.items())
            )
        )

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        eventually(lambda: len(self.progress) == len(self.threads))
        self.await_progress()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures


@contextmanager
def watched(site: Site) -> Iterator[list[dict[str, str]]]:
    """Have somebody make one report after the other, as serve does; gives each one's states."""
    done = threading.Event()
    seen: list[dict[str, str]] = []
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            while not done.wait(REPORTS_SECONDS):
                seen.append({str(each.course_id): each.state.value for each in status(site.portal)})
        except BaseException as failure:  # noqa: BLE001 - the main thread raises it
            failures.append(failure)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
    assert not failures


def add_members(site: Site, *course_ids: str) -> None:
    for n in range(MEMBERS):
        user = insert_user(site, f"member{n}", last_name=str((n and "x") or 0))
        for each in course_ids:
            enroll(site, user, each)


def assert_whole(site: Site, *course_ids: str) -> None:
    """All of them stream, hold what they are to hold, and nothing is left of what was before."""
    eventually(lambda: set(states(site).values()) == {"streaming"}, 30)
    for each in course_ids:
        assert_equal_to_the_fan_out(site, each, *REPLICATED)
        assert_live_rows(site, each)


def objects(conninfo: str) -> tuple[Rows, Rows]:
    """Return the slots and publications that a database has."""
    with closing(psycopg.connect(conninfo)) as database:
        found = (
            "select slot_name::text from pg_replication_slots where database = current_database()",
            "select pubname::text from pg_publication",
        )
        slots, publications = (sorted(database.execute(each).fetchall()) for each in found)
        return slots, publications


def assert_only(site: Site, conninfo: str, *subscribers: str) -> None:
    """A database has a slot and a publication for each of these, and no other."""
    names = sorted((replication_name(site, each),) for each in subscribers)
    assert objects(conninfo) == (names, names)


@pytest.fixture
def relays_server(major: int, folder: Path) -> Iterator[OwnCluster]:
    cluster = OwnCluster.start(major, folder, "relay")
    yield cluster
    cluster.server.stop("immediate")


@pytest.mark.newest("crashes of servers are tried on both ends without a relay")
@pytest.mark.timeout(300)
def test_a_relay_is_killed_and_restored_then_lost_for_good_and_replaced(
    site: Site, relays_server: OwnCluster
) -> None:
    add_members(site, "A", "B")
    relay = relays_server.create()
    succeed("relay", "add", "north", relay, portal=site.portal)
    for each in ("A", "B"):
        add(site, each, "north")
    with Applications(site, "A", "B") as applications:
        relays_server.kill()
        applications.await_progress()
        found = courses_of("status", portal=site.portal)
        assert {each["state"] for each in found.values()} == {"unreachable"}
        for each in ("A", "B"):
            assert found[each]["cause"].startswith(f"'{NORTH}', which it streams from, is unreach")
        relays_server.server.start()
        applications.await_progress()
        eventually(lambda: set(states(site).values()) == {"streaming"}, 30)

        # It is gone with all that it had, and another one takes its place.
        relays_server.kill()
        second = site.new_database()
        moved = ("course", "move", NORTH, second, "--fresh")
        refused = cli(*moved, portal=site.portal)
        assert "can't leave its old database" in refused.stderr
        succeed(*moved, "--force", portal=site.portal)
        applications.await_progress()
        found = courses_of("status", portal=site.portal)
        assert {k: v["state"] for k, v in found.items()} == {
            **dict.fromkeys(("A", "B"), "lost"),
            NORTH: "streaming",
        }
        for each in ("A", "B"):
            assert "slot is missing on relay 'north'" in found[each]["cause"]
            assert f"pysync resync {each}" in found[each]["remedy"]
        succeed("resync", "--all", portal=site.portal)
        applications.await_progress()
    assert_whole(site, "A", "B")
    assert_only(site, site.portal, NORTH)
    assert_only(site, second, "A", "B")

    # So is that; its courses do without.
    with Applications(site, "A", "B") as applications:
        site.course_server.drop(second)
        refused = cli("course", "move", "A", "--via", "portal", portal=site.portal)
        assert "can't leave its relay" in refused.stderr
        away = ("course", "move", "A", "B", "--via", "portal", "--force")
        succeed(*away, portal=site.portal)
        assert "streams from 'portal' already" in succeed(*away, portal=site.portal)
        succeed("relay", "remove", "north", "--yes", "--force", portal=site.portal)
        applications.await_progress()
    assert_whole(site, "A", "B")
    assert_only(site, site.portal, "A", "B")


@pytest.mark.newest("merges under load are tried on both elsewhere")
@pytest.mark.timeout(300)
def test_courses_move_under_load_and_nobody_notices(site: Site) -> None:
    courses = ("A", "B", "C")
    add_members(site, *courses)
    relay = add_relay(site)
    for each, via in (("A", None), ("B", None), ("C", "north")):
        add(site, each, via)
    with Applications(site, *courses) as applications, watched(site) as seen:
        for via in ("north", "portal"):
            succeed("course", "move", "A", "B", "--via", via, portal=site.portal)
            applications.await_progress()
            site.wait()
    assert_whole(site, *courses)
    # A slot that is replaced is missing for a moment; who streams from the relay lacks nothing.
    for report in seen:
        assert report["C"] in HARMLESS or report[NORTH] == "lost", report
    assert_only(site, site.portal, "A", "B", NORTH)
    assert_only(site, relay, "C")
    with closing(psycopg.connect(relay)) as there:
        for table in (*REPLICATED, "mark"):
            left = f"select from course.{table} where course_id in ('A', 'B')"
            assert there.execute(left).fetchall() == []


STEPS = (
    "alter subscription",
    "create subscription",
    "update pysync.course\n",
    "select pg_catalog.pg_copy_logical_replication_slot",
    "drop publication",
    "alter publication",
    'delete from "course"."mark" where course_id',
)
"""After which something is another publisher's than before, or goes on."""


SHARED = 8
"""Moments at which a move to the portal has done nothing else than one to a relay."""


def die(
    site: Site, monkeypatch: pytest.MonkeyPatch, lives: int, to: CourseId | None, told: set[str]
) -> bool:
    """Have a move be killed; see that what is said then is true, and have the move finished.

    :returns: whether it was killed before it was done.
    """
    if to is not None:
        # That merges the relay, as any resync does.
        prepare(site.portal, to, [CourseId("A")], Silent())
    with monkeypatch.context() as patched, suppress(KilledError):
        mortal = Mortal(patched, lives, STEPS)
        reroute(site.portal, CourseId("A"), to, mortal.progress)
        return False
    enroll(site, insert_user(site, f"late{lives} on the way to {to}"), "A")
    found = {each.course_id: each for each in status(site.portal)}
    assert found[CourseId("B")].state.value in HARMLESS
    now = found[CourseId("A")]
    told.add(now.state.value)
    if now.state.value != "streaming" and lives % 2:
        # What is said to mend it does.
        assert isinstance(now.remedy, Text)
        (command,) = now.remedy.commands
        succeed(*command.split()[1:], portal=site.portal)
    if now.state.value == "streaming" or lives % 2:
        site.wait("A")
        assert_live_rows(site, "A")
    reroute(site.portal, CourseId("A"), to, Silent())
    for each in ("A", "B"):
        assert_equal_to_the_fan_out(site, each, *REPLICATED)
    return True


@pytest.mark.newest("the order of our own steps, whichever server does them")
@pytest.mark.timeout(300)
def test_wherever_a_move_is_killed_it_is_finished_by_the_next_and_status_is_true(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_members(site, "A", "B")
    relay = add_relay(site)
    add(site, "A")
    add(site, "B", "north")
    told: set[str] = set()
    lives, killed = 0, True
    while killed:
        killed = die(site, monkeypatch, lives, relay_id("north"), told)
        assert_only(site, site.portal, NORTH)
        assert_only(site, relay, "A", "B")
        # The way back is the same until the course streams; only what it leaves differs.
        if killed and lives % 2:
            reroute(site.portal, CourseId("A"), None, Silent())
        else:
            killed |= die(site, monkeypatch, lives + SHARED, None, told)
        assert_only(site, site.portal, "A", NORTH)
        assert_only(site, relay, "B")
        lives += 1
    assert_whole(site, "A", "B")
    assert lives > SHARED, "it isn't killed where it was meant to be"
    assert {"streaming", "paused", "lost"} <= told <= {"streaming", "paused", "lost", "orphaned"}


def remake(site: Site, publisher: str, course_id: str) -> None:
    """Drop a course's slot, have changes made, marks among them, and make it anew."""
    name = replication_name(site, course_id)
    with (
        closing(psycopg.connect(site.databases[course_id], autocommit=True)) as database,
        closing(psycopg.connect(publisher, autocommit=True)) as sender,
    ):
        database.execute(f"alter subscription {name} disable")
        drop_slot(sender, name)
        enroll(site, insert_user(site, f"missed on the way to {course_id}"), "A")
        site.execute("select pysync.send_marks(%s)", [course_id])
        if course_id != NORTH:
            with closing(psycopg.connect(site.databases[NORTH], autocommit=True)) as relay:
                mark = site.one("select pysync.mark(%s)", NORTH)
                relay.execute("call course.wait_for(%s, '30 s')", (mark,))
        sender.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
        database.execute(f"alter subscription {name} enable")


@pytest.mark.newest("the chain of marks is ours; its breaks are looked for on both elsewhere")
@pytest.mark.timeout(180)
def test_what_is_lost_on_either_hop_is_told_and_mended(site: Site) -> None:
    add_members(site, "A", "B")
    site.databases[NORTH] = relay = add_relay(site)
    for each in ("A", "B"):
        add(site, each, "north")
    well = dict.fromkeys(("A", "B", NORTH), "streaming")
    assert states(site) == well
    # From the relay to a course.
    remake(site, relay, "A")
    eventually(lambda: states(site) == {**well, "A": "lost"}, 30)
    succeed("resync", "A", portal=site.portal)
    assert states(site) == well
    # From the portal to the relay.
    remake(site, site.portal, NORTH)
    eventually(lambda: set(states(site).values()) == {"lost"}, 30)
    refused = cli("resync", "A", portal=site.portal)
    assert "lacks rows" in refused.stderr
    assert f"pysync resync {NORTH}" in refused.stderr
    said = succeed("resync", "--all", portal=site.portal)
    assert said.splitlines()[0].startswith(f"course '{NORTH}' resynchronised: ")
    assert_whole(site, "A", "B")

    # While the relay stands its courses do, and lose nothing: nor by a merge of it.
    succeed("course", "pause", NORTH, portal=site.portal)
    enroll(site, insert_user(site, "meanwhile"), "A")
    found = courses_of("status", portal=site.portal)
    assert {each["state"] for each in found.values()} == {"paused"}
    assert found["A"]["remedy"] == f"run 'pysync course resume {NORTH}'"
    succeed("resync", NORTH, portal=site.portal)
    assert_whole(site, "A", "B")
    # A course's slot on the relay is given up as one on the portal is.
    succeed("course", "durable", "A", portal=site.portal)
    succeed("course", "pause", "A", portal=site.portal)
    enroll(site, insert_user(site, "retained"), "B")
    beyond = ("guard", "--once", "--max-retained", "1kB", "--interval", "0.4")
    assert "course 'A' retains" in succeed(*beyond, portal=site.portal)
    assert states(site) == {**well, "A": "lost"}
    succeed("resync", "A", portal=site.portal)
    assert_whole(site, "A", "B")
    assert courses_of("status", portal=site.portal)["A"]["durable"] is True
    succeed("verify", portal=site.portal)
