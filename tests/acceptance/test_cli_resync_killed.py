"""``pysync resync``, interrupted: nothing is lost, nothing is left behind, the next run finishes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from pysync.db.connections import connect
from pysync.errors import LockedError, ReplicationError
from pysync.lifecycle import handover, pause
from pysync.lifecycle.resync import resync
from pysync.lifecycle.work import Work
from pysync.replication import registry, snapshots
from pysync.replication.publishers import Publisher
from pysync.types import CourseId
from tests.acceptance.test_cli_course_add import Start, assert_only_slot, slots, start
from tests.acceptance.test_cli_process import read_json, succeed
from tests.acceptance.test_cli_resync import (
    assert_equal_to_the_fan_out,
    assert_sound,
    damaged,
    lose_slot,
)
from tests.acceptance.test_cli_status import replication_name, state_of
from tests.support import Silent, Site, enroll, eventually, insert_user

pytestmark = pytest.mark.newest("the order of our own steps, whichever server does them")

__all__ = ["damaged", "start"]


@contextmanager
def held_snapshot(site: Site, start: Start) -> Iterator[Any]:
    """Hold it where it waits for an older transaction on the portal."""
    application = site.connect()
    application.execute("begin")
    application.execute("insert into auth_user (username, password) values ('held', '')")
    process = start("resync", "A")
    eventually(
        lambda: site.execute(
            "select true from pg_stat_activity where application_name = 'pysync'"
            " and backend_type = 'walsender' and wait_event_type = 'Lock'"
        )
    )
    yield process
    application.execute("commit")


@contextmanager
def held_merge(site: Site, start: Start) -> Iterator[Any]:
    """Hold it in the middle of its merge: a session of the course has written a row."""
    session = site.course("A")
    session.execute("begin")
    session.execute("update course.auth_user set karma = 7 where id = 900003")
    process = start("resync", "A")
    eventually(
        lambda: (
            site.course("A")
            .execute(
                "select true from pg_stat_activity where application_name = 'pysync'"
                " and wait_event_type = 'Lock' and datname = current_database()"
            )
            .fetchall()
        )
    )
    yield process
    session.execute("rollback")


@pytest.mark.also_granted("the whole command")
@pytest.mark.parametrize(
    ("hold", "lost"),
    [(held_snapshot, False), (held_merge, True)],
    ids=["snapshot", "lost-merge"],
)
def test_a_resync_that_is_killed_is_finished_by_the_next(
    damaged: Site, start: Start, hold: Any, lost: bool
) -> None:
    site = damaged
    name = replication_name(site, "A")
    if lost:
        lose_slot(site)
    with hold(site, start) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    enroll(site, insert_user(site, "meanwhile"), "A")
    # Its temporary slot is gone with it; the course's own is there only if it can be relied upon.
    eventually(lambda: set(slots(site)) <= {name})
    assert state_of(site, "A") == ("lost" if lost else "paused")
    if not lost:
        # Whoever resumes instead loses nothing.
        succeed("course", "resume", "A", portal=site.portal)
        site.wait("A")
        course = site.course("A")
        assert course.execute("select true from auth_user where username = 'meanwhile'").fetchall()
    succeed("resync", "A", portal=site.portal)
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)


@pytest.mark.oldest_and_newest("where a slot stands when its reader asks for less")
@pytest.mark.parametrize("lost", [False, True], ids=["healthy", "lost"])
def test_a_resync_that_ends_right_after_its_merge_leaves_no_gap(damaged: Site, lost: bool) -> None:
    site = damaged
    name = replication_name(site, "A")
    if lost:
        lose_slot(site)
    with (
        closing(connect(site.portal)) as portal,
        closing(connect(site.databases["A"])) as database,
    ):
        course = registry.get(portal, CourseId("A"))
        publisher = Publisher(site.portal, portal)
        work = Work(portal, publisher, course, site.databases["A"], database, site.portal, Silent())
        handover.subscribe(work)
        with handover.merged(work):
            enroll(site, insert_user(site, "meanwhile"), "A")
    assert state_of(site, "A") == ("lost" if lost else "paused")
    eventually(lambda: slots(site) == [name] * (not lost) + [f"{name}_merged"])
    (orphan,) = read_json("status", portal=site.portal)["orphans"]
    assert "interrupted merge" in orphan["cause"]
    succeed("course", "resume", "A", portal=site.portal)
    # A worker that asks for what is behind its slot doesn't move that back.
    merged_at = site.one("select confirmed_flush_lsn from pg_replication_slots")
    restarted = "select count(pg_terminate_backend(active_pid)) from pg_replication_slots"
    eventually(lambda: site.one(restarted) and state_of(site, "A") == "streaming")
    assert site.one("select confirmed_flush_lsn >= %s from pg_replication_slots", merged_at)
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)


CHANGES = (
    "alter subscription",
    "select pg_catalog.pg_copy_logical_replication_slot",
    "select pg_catalog.pg_drop_replication_slot",
)


class KilledError(BaseException):
    """Nothing is done after it."""


class Mortal:
    """Ends all connections of ours for good, as a process does that is killed.

    :param lives: how many moments it survives: those before each statement that changes a slot or a
        subscription, from the merge on, and those after one that changes which slot is whose.
    :param changes: how such statements begin.
    :param since: the step from which on they count; all if there is none.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        lives: int,
        changes: tuple[str, ...] = CHANGES,
        since: str = "merging",
    ) -> None:
        self.left, self.dead = lives, False
        self.changes, self.since = changes, since
        self.progress = Silent()
        self.connections: list[psycopg.Connection[Any]] = []
        self._execute, self._connect = psycopg.Connection.execute, psycopg.connect

        def execute(connection: psycopg.Connection[Any], *arguments: Any, **named: Any) -> Any:
            return self.execute(connection, *arguments, **named)

        monkeypatch.setattr(psycopg.Connection, "execute", execute)
        monkeypatch.setattr(psycopg, "connect", self.connect)

    def connect(self, *arguments: Any, **named: Any) -> psycopg.Connection[Any]:
        self.live_on(0)
        self.connections.append(self._connect(*arguments, **named))
        return self.connections[-1]

    def execute(
        self, connection: psycopg.Connection[Any], query: Any, *arguments: Any, **named: Any
    ) -> Any:
        self.live_on(0)
        text = query if isinstance(query, str) else query.as_string(connection)
        begun = not self.since or self.since in self.progress.steps
        changes = begun and text.strip().lower().startswith(self.changes)
        self.live_on(int(changes))
        result = self._execute(connection, query, *arguments, **named)
        self.live_on(int(changes and "slot_name" in text))
        return result

    def live_on(self, moments: int) -> None:
        self.left -= moments
        if self.left < 0:
            for each in self.connections:
                each.pgconn.finish()
            if threading.current_thread() is not threading.main_thread():
                # Who looks after the command that is killed dies with it, not by itself.
                raise psycopg.OperationalError
            raise KilledError


@pytest.mark.timeout(300)
def test_wherever_a_hand_over_is_killed_whoever_resumes_loses_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("A")
    name, killed, lives = replication_name(site, "A"), True, 0
    while killed:
        pause.switch(site.portal, CourseId("A"), on=False)
        enroll(site, insert_user(site, f"before{lives}"), "A")
        with monkeypatch.context() as patched:
            mortal = Mortal(patched, lives)
            try:
                resync(site.portal, CourseId("A"), mortal.progress)
                killed = False
            except KilledError:
                lives += 1
        enroll(site, insert_user(site, f"after{lives}-{killed}"), "A")
        pause.switch(site.portal, CourseId("A"), on=True)
        site.wait("A")
        assert_equal_to_the_fan_out(site, "A")
        eventually(lambda: slots(site) == [name])
    assert lives > 8, "it isn't killed where it was meant to be"


def test_a_resync_that_fails_lets_a_healthy_course_go_on(damaged: Site, start: Start) -> None:
    site = damaged
    with held_snapshot(site, start) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130, said
    enroll(site, insert_user(site, "meanwhile"), "A")
    site.wait("A")
    assert state_of(site, "A") == "streaming"
    assert_only_slot(site, replication_name(site, "A"))


def test_a_transaction_that_does_not_end_is_named_and_the_course_goes_on(
    damaged: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = damaged
    monkeypatch.setattr(snapshots, "SLOT_TIMEOUT_SECONDS", 0.5)
    application = site.connect()
    application.execute("begin")
    application.execute("insert into auth_user (username, password) values ('held', '')")
    with pytest.raises(ReplicationError, match="older transactions") as refused:
        resync(site.portal, CourseId("A"), Silent())
    assert f"process {application.info.backend_pid} (" in refused.value.message
    application.execute("commit")
    assert_only_slot(site, replication_name(site, "A"))
    enroll(site, insert_user(site, "meanwhile"), "A")
    site.wait("A")


def test_a_course_site_that_keeps_rows_locked_is_told_and_the_course_goes_on(
    damaged: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = damaged
    monkeypatch.setattr(handover, "TRIES", 1)
    session = site.course("A")
    session.execute("begin")
    session.execute("update course.auth_user set karma = 7 where id = 900003")
    with pytest.raises(LockedError, match="course 'A' is busy"):
        resync(site.portal, CourseId("A"), Silent())
    session.execute("commit")
    assert state_of(site, "A") in ("streaming", "catching-up")
    succeed("resync", "A", portal=site.portal)
    assert_equal_to_the_fan_out(site, "A")
