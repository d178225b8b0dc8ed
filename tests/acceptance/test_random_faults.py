"""Random faults under load: a course that differs from the portal isn't called ``streaming`` for long.

A round draws a fault or two, lets an application write meanwhile, and has the writing rest. What plain
SQL finds then decides what ``pysync serve`` may say; what it names as a remedy is run as it is printed,
until the course is whole again, and said to be.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql

from pysync.findings import IN_COURSE
from pysync.models.replicated import PUBLISHED, REPLICATED
from pysync.replication import publications, registry
from pysync.types import CourseId
from tests.acceptance.test_cli_process import (
    Fork,
    OwnCluster,
    cli,
    environment,
    own_servers,
    read_json,
)
from tests.acceptance.test_serve import get
from tests.support import Site, assert_live_rows, drop_slot, eventually

pytestmark = pytest.mark.oldest_and_newest("what is lost without an error, and who counts it")

SETTING: Final = os.environ.get("PYSYNC_TEST_FAULTS", "").split(",")
SEED: Final = int(SETTING[0] or random.SystemRandom().randrange(10**6))
ROUNDS: Final = int(SETTING[1]) if SETTING[1:] else 2
ONLY: Final = SETTING[2:]

SERVE: Final = ("--interval", "0.5", "--verify-every", "1s", "--verify-share", "1")
STREAMING_REPORTS: Final = 1
"""How many reports may call a course that lost marks streaming: it is told in the second."""

LATE_SECONDS: Final = 40
"""When whatever is waited for is late on a machine that is busy."""

TRIES: Final = 12

Said = dict[str, Any]


class Load(threading.Thread):
    """An application that writes users, profiles and enrollments, through crashes, and can rest."""

    def __init__(self, site: Site, seed: int) -> None:
        super().__init__(name="load", daemon=True)
        self._site, self._random = site, random.Random(seed)
        self._active, self._resting, self._done = (threading.Event() for _ in range(3))
        self.written = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self._done.is_set():
                with (
                    contextlib.suppress(psycopg.OperationalError),
                    psycopg.connect(self._site.portal, autocommit=True) as connection,
                ):
                    self._write(connection)
                self._done.wait(0.02)
        except Exception as failure:  # noqa: BLE001 - the main thread raises it
            self.failure = failure
            self._resting.set()

    def _write(self, portal: psycopg.Connection[Any]) -> None:
        while not self._done.wait(0.01):
            if not self._active.is_set():
                self._resting.set()
                self._active.wait(0.05)
                continue
            with portal.transaction():
                self._change(portal)
            self.written += 1

    def _change(self, portal: psycopg.Connection[Any]) -> None:
        number = self._random.randrange(10**9)
        somebody = "(select id from auth_user where id >= 3 order by random() limit 1)"
        new = (
            f"with u as (insert into auth_user (username, password, email) values ('u{number}', '',"
            f" '{number}@example.org') returning id), p as (insert into auth_userprofile"
            " (user_id, name) select id, 'new' from u returning user_id)"
            " select id from u"
        )
        kind = self._random.choice("nnueeuuplxd")
        (users,) = portal.execute("select count(*) from auth_user").fetchone() or (0,)
        if users < 15 or (kind == "n" and users < 70):
            (user_id,) = portal.execute(new.encode()).fetchone() or (0,)
            enroll = "insert into student_courseenrollment (user_id, course_id) values (%s, 'A')"
            portal.execute(enroll, (user_id,))
        elif kind == "u":
            portal.execute(
                f"update auth_user set email = '{number}@example.org' where id = {somebody}".encode()
            )
        elif kind == "p":
            portal.execute(
                f"update auth_userprofile set name = '{number}' where user_id = {somebody}".encode()
            )
        elif kind == "e":
            enroll = "insert into student_courseenrollment (user_id, course_id)"
            portal.execute(
                f"{enroll} select id, 'A' from auth_user where id not in (select user_id from"
                " student_courseenrollment) order by random() limit 1".encode()
            )
        elif kind == "l":
            portal.execute(
                f"delete from student_courseenrollment where user_id = {somebody}".encode()
            )
        elif kind == "x":
            portal.execute(
                "update student_courseenrollment set created = clock_timestamp()"
                f" where user_id = {somebody}".encode()
            )
        else:
            (user_id,) = portal.execute(somebody.encode()).fetchone() or (0,)
            for table, column in (
                ("student_courseenrollment", "user_id"),
                ("auth_userprofile", "user_id"),
                ("auth_user", "id"),
            ):
                portal.execute(f"delete from {table} where {column} = {user_id}".encode())

    def progress(self, transactions: int = 15) -> None:
        """Wait until so many more transactions are committed."""
        before = self.written
        eventually(lambda: self.failure or self.written >= before + transactions, LATE_SECONDS)
        if self.failure:
            raise self.failure

    def start(self) -> None:
        self._active.set()
        super().start()

    def stop(self) -> None:
        self._done.set()
        self.join()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        self._resting.clear()
        self._active.clear()
        eventually(self._resting.is_set, LATE_SECONDS)
        if self.failure:
            raise self.failure
        yield
        self._active.set()


class Watcher(threading.Thread):
    """Asks ``pysync serve`` all the time, and keeps what it said when."""

    def __init__(self, url: str) -> None:
        super().__init__(name="watcher", daemon=True)
        self._url = url
        self._done = threading.Event()
        self.reports: list[Said] = []

    def run(self) -> None:
        while not self._done.wait(0.05):
            # No report is no claim: it isn't known then what is streaming.
            with contextlib.suppress(OSError):
                status, body, _ = get(f"{self._url}/api/status")
                document = json.loads(body)
                if status == 200 and (not self.reports or self.reports[-1]["at"] != document["at"]):
                    (course,) = document["courses"]
                    self.reports.append({"at": document["at"], **course})

    def stop(self) -> None:
        self._done.set()
        self.join()

    def since(self, moment: datetime) -> list[Said]:
        return [each for each in self.reports if datetime.fromisoformat(each["at"]) > moment]


@dataclass
class Case:
    """A portal with one course under load, on servers of their own, and what is said of it."""

    site: Site
    load: Load
    watcher: Watcher
    random: random.Random
    disabled_by: int = 0

    @property
    def name(self) -> str:
        return f"{self.site.one('select replication_name from pysync.course')}"

    def portal(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return self.site.execute(statement.replace("{name}", self.name), *arguments)

    def course(self, statement: str, *, settings: str = "") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.site.databases["A"], autocommit=True, options=settings) as course:
            cursor = course.execute(statement.replace("{name}", self.name).encode())
            return cursor.fetchall() if cursor.description else []

    def behind_triggers(self, statement: str) -> None:
        self.course(statement, settings="-c session_replication_role=replica")

    def now(self) -> datetime:
        moment = self.site.one("select clock_timestamp()")
        assert isinstance(moment, datetime)
        return moment

    def await_mark(self) -> None:
        """Wait until serve has sent a mark."""
        newest = "select max(number) from course.mark"
        before = self.site.one(newest)
        eventually(lambda: self.site.one(newest) > before, LATE_SECONDS)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Have nothing read the slot in the block; where blocks nest, to the end of the outermost."""
        self.course('alter subscription "{name}" disable')
        self.disabled_by += 1
        active = "select true from pg_replication_slots where slot_name = '{name}' and active"
        eventually(lambda: not self.portal(active), LATE_SECONDS)
        yield
        self.disabled_by -= 1
        if not self.disabled_by:
            self.course('alter subscription "{name}" enable')

    def difference(self) -> str | None:
        """Return how the course differs from what plain SQL says on the portal."""
        try:
            assert_live_rows(self.site, "A")
        except AssertionError as wrong:
            return str(wrong)
        for table in REPLICATED:
            rows = f"select {', '.join(table.columns)} from course.{table.name} order by id"
            if (here := self.portal(rows)) != (there := self.course(rows)):
                return f"{table.name}: {set(here) ^ set(there)}"
        return None

    def told(self, *, by_itself: bool = False) -> Said | None:
        """With nothing written, wait until the course is whole and said to be, or said not to be.

        :param by_itself: wait until it is whole, whatever is said before.
        """
        began = self.now()
        deadline = time.monotonic() + LATE_SECONDS
        while True:
            differs = self.difference()
            reports = self.watcher.since(began)
            said = reports[-1] if reports else {"state": None}
            streams = said["state"] == "streaming"
            whole = streams and differs is None and said["unverified_since"] is None
            if whole:
                return None
            if not by_itself and said["state"] not in {None, "streaming", "catching-up", "copying"}:
                return said
            if streams and differs and self.difference():
                verified = [each["verified_at"] for each in reports if each["verified_at"]]
                late = [each for each in verified if datetime.fromisoformat(each) > began]
                assert not late, f"streaming, though verified since: {differs}"
            assert time.monotonic() < deadline, f"{said}; {differs}"
            time.sleep(0.05)

    def follow(self) -> str:
        """Run what status names as a remedy, as it is printed."""
        (found,) = read_json("status", "A", portal=self.site.portal)["courses"]
        done = []
        for command in found["commands"]:
            if command.startswith("pysync "):
                result = cli(*shlex.split(command)[1:], portal=self.site.portal)
                done.append(f"{command}: {result.returncode} {result.stderr}")
                continue
            before = found["remedy"][: found["remedy"].index(command)]
            in_course = before.endswith(f"{IN_COURSE}: ")
            where = self.site.databases["A"] if in_course else self.site.portal
            with psycopg.connect(where, autocommit=True) as session:
                for statement in command.split("; "):
                    session.execute(statement.encode())
            done.append(command)
        return f"{found['state']} ({found['cause']}): {done}"


Fault = Callable[[Case], AbstractContextManager[None]]
FAULTS: Final[dict[str, Fault]] = {}
LOSES_MARKS: Final[set[str]] = set()
HARMLESS: Final[set[str]] = set()
ALONE: Final[set[str]] = set()


def fault(*kinds: set[str]) -> Callable[[Callable[[Case], Iterator[None]]], Fault]:
    """Take a fault in: what is before its ``yield`` begins it, what is after ends it."""

    def taken(function: Callable[[Case], Iterator[None]]) -> Fault:
        name = function.__name__
        FAULTS[name] = contextmanager(function)
        for kind in kinds:
            kind.add(name)
        return FAULTS[name]

    return taken


@fault(LOSES_MARKS)
def slot_made_anew(case: Case) -> Iterator[None]:
    with case.disabled():
        yield
        drop_slot(case.site.connect(), case.name)
        case.portal("select pg_create_logical_replication_slot('{name}', 'pgoutput')")


@fault(LOSES_MARKS)
def slot_advanced(case: Case) -> Iterator[None]:
    with case.disabled():
        yield
        case.portal("select pg_replication_slot_advance('{name}', pg_current_wal_lsn())")


@fault(LOSES_MARKS)
def slot_read_by_somebody_else(case: Case) -> Iterator[None]:
    with case.disabled():
        yield
        case.portal(
            "select pg_logical_slot_get_binary_changes('{name}', null, null,"
            " 'proto_version', '1', 'publication_names', '{name}')"
        )


@fault(LOSES_MARKS)
def origin_advanced(case: Case) -> Iterator[None]:
    with case.disabled():
        yield
        ((position,),) = case.portal("select pg_current_wal_insert_lsn()::text")
        case.course(
            f"select pg_replication_origin_advance('pg_' || oid, '{position}')"
            " from pg_subscription where subname = '{name}'"
        )


@fault(LOSES_MARKS, ALONE)
def subscription_made_anew_by_hand(case: Case) -> Iterator[None]:
    ((conninfo,),) = case.course("select subconninfo from pg_subscription")
    with case.disabled():
        case.course('alter subscription "{name}" set (slot_name = none)')
        case.course('drop subscription "{name}"')
        drop_slot(case.site.connect(), case.name)
        yield
        case.portal("select pg_create_logical_replication_slot('{name}', 'pgoutput')")
        case.course(
            f'create subscription "{{name}}" connection \'{conninfo}\' publication "{{name}}"'
            " with (create_slot = false, copy_data = false, slot_name = '{name}')"
        )


def put_back(server: OwnCluster) -> Iterator[None]:
    backup = server.server.folder / "backup"
    server.server.stop()
    subprocess.run(["cp", "-a", server.server.data, backup], check=True)
    server.server.start()
    yield
    server.server.stop("immediate")
    subprocess.run(["rm", "-r", server.server.data], check=True)
    backup.rename(server.server.data)
    server.server.start()


@fault(LOSES_MARKS, ALONE)
def course_put_back(case: Case) -> Iterator[None]:
    return put_back(own(case.site.course_server))


@fault(ALONE)
def portal_put_back(case: Case) -> Iterator[None]:
    return put_back(own(case.site.portal_server))


def own(cluster: object) -> OwnCluster:
    assert isinstance(cluster, OwnCluster)
    return cluster


@fault(HARMLESS, ALONE)
def course_killed(case: Case) -> Iterator[None]:
    own(case.site.course_server).kill()
    yield
    own(case.site.course_server).server.start()


@fault(HARMLESS, ALONE)
def portal_killed(case: Case) -> Iterator[None]:
    yield
    own(case.site.portal_server).kill()
    own(case.site.portal_server).server.start()


@fault(HARMLESS)
def worker_killed(case: Case) -> Iterator[None]:
    for _ in range(3):
        case.course("select pg_terminate_backend(pid) from pg_stat_subscription where pid > 0")
        case.load.progress(3)
    yield


@fault(HARMLESS)
def sender_killed(case: Case) -> Iterator[None]:
    yield
    case.portal("select pg_terminate_backend(active_pid) from pg_replication_slots")


@fault(HARMLESS)
def disabled_a_while(case: Case) -> Iterator[None]:
    with case.disabled():
        yield


@fault(HARMLESS)
def statistics_reset(case: Case) -> Iterator[None]:
    yield
    case.course("select pg_stat_reset_subscription_stats(null)")


@fault(ALONE)
def publication_dropped(case: Case) -> Iterator[None]:
    case.portal('drop publication "{name}"')
    yield
    if case.random.random() < 0.5:
        with case.site.connect() as portal:
            publications.ensure(portal, registry.get(portal, CourseId("A")))


@contextmanager
def published(case: Case, altered: Callable[[registry.Course], sql.Composed]) -> Iterator[None]:
    """Have the publication be another one for a while."""
    set_tables = sql.SQL("alter publication {} set table {}")
    with case.site.connect() as portal:
        course, name = registry.get(portal, CourseId("A")), sql.Identifier(case.name)
        portal.execute(set_tables.format(name, altered(course)))
        yield
        portal.execute(set_tables.format(name, publications.published(course)))


@fault(LOSES_MARKS, ALONE)
def row_filter_altered(case: Case) -> Iterator[None]:
    with published(
        case, lambda course: publications.published(replace(course, course_id=CourseId("nobody")))
    ):
        yield


@fault(ALONE)
def column_list_altered(case: Case) -> Iterator[None]:
    tables = {
        table.name: [each for each in table.columns if each not in ("email", "created")]
        for table in PUBLISHED
    }
    with published(case, lambda course: publications.published(course, tables)):
        yield


@fault(ALONE)
def table_taken_out(case: Case) -> Iterator[None]:
    out = case.random.choice([each.name for each in PUBLISHED])
    tables = {table.name: table.columns for table in PUBLISHED if table.name != out}
    refreshed = case.random.random() < 0.5
    refresh = 'alter subscription "{name}" refresh publication with (copy_data = false)'
    with published(case, lambda course: publications.published(course, tables)):
        if refreshed:
            case.course(refresh)
        yield
    if refreshed:
        case.course(refresh)


@fault()
def rows_changed_in_the_course(case: Case) -> Iterator[None]:
    somebody = "(select user_id from course.student_courseenrollment order by random() limit 1)"
    case.behind_triggers(
        case.random.choice(
            (
                f"update course.auth_user set email = 'x@y.z' where id = {somebody}",
                f"delete from course.student_courseenrollment where user_id = {somebody}",
                f"delete from course.auth_userprofile where user_id = {somebody}",
                "insert into course.auth_user (id, course_id, username, password)"
                f" values ({case.random.randrange(10**6, 10**9)}, 'A', 'stranger', '')",
                "delete from course.auth_user",
                "update course.student_courseenrollment set created = clock_timestamp()",
            )
        )
    )
    yield


@fault()
def tables_truncated_in_the_course(case: Case) -> Iterator[None]:
    yield
    tables = [f"course.{each.name}" for each in REPLICATED]
    case.behind_triggers(f"truncate {', '.join(tables[case.random.randrange(3) :])}")


@fault(LOSES_MARKS)
def marks_removed_in_the_course(case: Case) -> Iterator[None]:
    case.behind_triggers("delete from course.mark")
    yield


@fault()
def rows_changed_in_the_fan_out(case: Case) -> Iterator[None]:
    somebody = "(select user_id from course.student_courseenrollment order by random() limit 1)"
    with psycopg.connect(
        case.site.portal, autocommit=True, options="-c session_replication_role=replica"
    ) as portal:
        for statement in case.random.sample(
            (
                f"update course.auth_user set email = 'x@y.z' where id = {somebody}",
                f"delete from course.student_courseenrollment where user_id = {somebody}",
                f"delete from course.auth_userprofile where user_id = {somebody}",
            ),
            2,
        ):
            portal.execute(statement.encode())
    yield


@fault(ALONE)
def fan_out_triggers_disabled(case: Case) -> Iterator[None]:
    table = f"public.{case.random.choice([each.name for each in REPLICATED])}"
    enabled = case.portal(
        f"select tgname from pg_trigger where tgrelid = '{table}'::regclass"
        " and not tgisinternal and tgenabled = 'O'"
    )
    for (trigger,) in enabled:
        case.portal(f'alter table {table} disable trigger "{trigger}"')
    yield
    for (trigger,) in enabled:
        case.portal(f'alter table {table} enable trigger "{trigger}"')


@fault()
def rows_swallowed_by_a_trigger(case: Case) -> Iterator[None]:
    table = f"course.{case.random.choice([each.name for each in REPLICATED])}"
    case.course(
        "create or replace function public.swallow() returns trigger language plpgsql"
        " as 'begin return null; end'"
    )
    case.course(
        f"create trigger swallow before insert or update or delete on {table}"
        " for each row execute function public.swallow()"
    )
    case.course(f"alter table {table} enable always trigger swallow")
    yield
    case.course(f"drop trigger swallow on {table}")


@fault()
def marks_not_looked_at(case: Case) -> Iterator[None]:
    case.course("alter table course.mark disable trigger pysync_note_missing_marks")
    with case.disabled():
        yield
        case.portal("select pg_replication_slot_advance('{name}', pg_current_wal_lsn())")
    case.await_mark()
    case.course("alter table course.mark enable replica trigger pysync_note_missing_marks")


@fault(ALONE)
def change_skipped(case: Case) -> Iterator[None]:
    case.course(
        "alter table course.auth_user add constraint refused check (email <> 'refused@') not valid"
    )
    case.portal(
        "update auth_user set email = 'refused@'"
        " where id = (select max(user_id) from student_courseenrollment)"
    )
    failed = "select true from pg_stat_subscription_stats where apply_error_count > 0"
    eventually(lambda: case.course(failed), LATE_SECONDS)
    yield
    with case.disabled():
        position = None
        for (message,) in case.portal(
            "select data from pg_logical_slot_peek_binary_changes('{name}', null, null,"
            " 'proto_version', '1', 'publication_names', '{name}')"
        ):
            if message[:1] == b"B":
                position = int.from_bytes(message[1:9])
            if b"refused@" in message and position:
                lsn = f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
                case.course(f"alter subscription \"{{name}}\" skip (lsn = '{lsn}')")
                break
    skipped = "select true from pg_subscription where subskiplsn = '0/0'"
    eventually(lambda: case.course(skipped), LATE_SECONDS)
    case.course("alter table course.auth_user drop constraint refused")


@contextmanager
def served(portal: str) -> Iterator[Watcher]:
    """Have ``pysync serve`` run, and be asked."""
    arguments = ("serve", "--listen", "127.0.0.1:0", *SERVE)
    with Fork(arguments, environment(portal, PYSYNC_LOG="critical")) as process:
        found = re.match(r"serving (\S+)/ until", process.stdout.readline())
        assert found
        watcher = Watcher(found[1])
        watcher.start()
        yield watcher
        watcher.stop()
        process.terminate()
        process.communicate(timeout=20)


def drawn(chosen: random.Random) -> list[str]:
    """Draw a fault, sometimes two that can happen together."""
    if ONLY:
        return ONLY
    first = chosen.choice(sorted(FAULTS))
    others = sorted(set(FAULTS) - ALONE - {first})
    together = first not in ALONE and chosen.random() < 0.3
    return [first, chosen.choice(others)] if together else [first]


@pytest.mark.timeout(60 + 150 * ROUNDS)
def test_a_course_that_differs_is_not_called_streaming_for_long(major: int, folder: Path) -> None:
    chosen = random.Random(SEED)
    with (
        own_servers(major, folder, "random", "A") as site,
        served(site.portal) as watcher,
        ExitStack() as stack,
    ):
        load = Load(site, SEED)
        stack.callback(load.stop)
        load.start()
        load.progress()
        case = Case(site, load, watcher, chosen)
        for number in range(ROUNDS):
            names = drawn(chosen)
            story = [f"PYSYNC_TEST_FAULTS={SEED},{ROUNDS}, round {number}: {', '.join(names)}"]
            began = case.now()
            try:
                _round(case, names, story)
            except Exception as error:
                error.add_note("\n".join(story))
                for each in watcher.since(began):
                    error.add_note(f"{each['at']}: {each['state']} ({each['cause']})")
                raise


def _round(case: Case, names: list[str], story: list[str]) -> None:
    load, watcher = case.load, case.watcher
    with ExitStack() as faults:
        for name in names:
            faults.enter_context(FAULTS[name](case))
        load.progress()
        case.await_mark()
    ended, began = case.now(), time.monotonic()
    if names == ["portal_killed"]:
        eventually(lambda: watcher.since(ended))
    load.progress()
    with load.at_rest():
        said = case.told(by_itself=set(names) <= HARMLESS)
    story.append(f"after {time.monotonic() - began:.1f} s: {said and said['state']}")
    if len(names) == 1 and set(names) <= LOSES_MARKS:
        assert said is not None, "marks were lost, and nothing is said"
        states = [each["state"] for each in watcher.since(ended)]
        streaming = [state == "streaming" for state in states].index(False)
        story.append(f"streaming in {streaming} reports")
        assert streaming <= STREAMING_REPORTS, states
    for _ in range(TRIES):
        if said is None:
            break
        story.append(case.follow())
        with load.at_rest():
            said = case.told()
    assert said is None, "the remedies don't heal"
    logging.getLogger(__name__).info("\n  ".join(story))
