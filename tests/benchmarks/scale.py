"""What a change costs the portal's server and the courses' server when many courses are attached.

Each commit wakes every walsender, and each decodes everything: so what counts is processor time, of all
of a server's processes, until every course has what was committed. Users are in three courses each,
fewer where there are fewer; flat out, where commits are decoded in passing, and at 100 a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from statistics import median

from pysync.db.connections import Connection, connect, fetch_value
from pysync.demo.servers import Server
from pysync.types import CourseId
from tests.benchmarks import pgbench
from tests.benchmarks.measure import Effort, Row, percentile
from tests.benchmarks.pair import (
    QUERIES,
    Pair,
    Relay,
    Say,
    Triggers,
    add_courses,
    enroll_in_three,
    new_portal,
    relays,
    server_pair,
    set_triggers,
    tidy,
)
from tests.benchmarks.singles import enroll_variables, take_back

USERS = 4_000
STEM = "Bench/Scale"
PER_SECOND = 100
RELAYS = 10
SPARE = 20
"""Walsenders and workers beyond one per course: first copies, and who starts them."""

_TICKS = os.sysconf("SC_CLK_TCK")


def measure(say: Say, effort: Effort) -> list[Row]:
    """Return milliseconds of processor time per update and per enrollment, by number of courses."""
    most = str(effort.courses[-1] + SPARE)
    rows: list[Row] = []
    settings = {
        "max_wal_senders": most,
        "max_logical_replication_workers": most,
        "max_worker_processes": str(int(most) + SPARE),
    }
    with server_pair(say, more=settings) as pair:
        conninfo = new_portal(pair, "scale", USERS, profiles=True)
        with closing(connect(conninfo)) as portal:
            courses: list[CourseId] = []
            for number in effort.courses:
                new = [CourseId(f"{STEM}/{n}") for n in range(len(courses), number)]
                add_courses(pair, conninfo, new, f"scale_{number}")
                courses += new
                say(f"{number} courses attached")
                rows += _stage(pair, portal, conninfo, courses, effort)
    rows = sorted(rows, key=lambda row: row.details["order"])
    return [*rows, *_relayed(say, effort, settings)]


def _relayed(say: Say, effort: Effort, settings: dict[str, str]) -> list[Row]:
    """Return the same for as many courses by way of relays, and how long hops take."""
    number = effort.courses[-1]
    with server_pair(say, more=settings) as pair:
        conninfo = new_portal(pair, "relayed", USERS, profiles=True)
        with closing(connect(conninfo)) as portal, relays(pair, conninfo, RELAYS) as found:
            courses = [CourseId(f"{STEM}/{n}") for n in range(number)]
            for start, relay in enumerate(found):
                add_courses(pair, conninfo, courses[start::RELAYS], f"r{start}", relay.relay_id)
            say(f"{number} courses attached by way of {RELAYS} relays")
            rows = [*_stage(pair, portal, conninfo, courses, effort, found)]
            with (
                closing(connect(found[0].conninfo)) as relay_database,
                closing(connect(pair.courses.conninfo("r0_0"))) as course,
            ):
                return [*rows, *_hops(portal, relay_database, course, courses[0], effort)]


def _hops(
    portal: Connection,
    relay: Connection,
    course: Connection,
    course_id: CourseId,
    effort: Effort,
) -> Iterator[Row]:
    """Measure how long after a commit a relay has a change, and a course behind it."""
    portal.execute(
        "insert into public.student_courseenrollment (user_id, course_id) values (1, %s)"
        " on conflict do nothing",
        (course_id,),
    )
    for hops, database in ("one hop", relay), ("two hops", course):
        seconds = []
        for change in range(effort.changes):
            email = f"{hops}{change}@example.org"
            time.sleep(0.003)
            portal.execute("update public.auth_user set email = %s where id = 1", (email,))
            committed = time.perf_counter()
            query = (
                "select true from course.auth_user where id = 1 and course_id = %s and email = %s"
            )
            while not database.execute(query, (course_id, email), prepare=True).fetchone():
                pass
            seconds.append(time.perf_counter() - committed)
        p50, p99 = median(seconds) * 1000, percentile(seconds, 0.99) * 1000
        yield Row(
            f"commit to visible, {hops}, p50 and p99",
            pysync=f"{p50:.2f} and {p99:.2f} ms",
            details={"milliseconds": [p50, p99]},
        )


def _stage(
    pair: Pair,
    portal: Connection,
    conninfo: str,
    courses: list[CourseId],
    effort: Effort,
    by_way_of: Sequence[Relay] = (),
) -> Iterator[Row]:
    """Measure with the courses that are attached now."""

    def settle() -> None:
        with ExitStack() as stack:
            for publisher in [
                portal,
                *(stack.enter_context(closing(connect(each.conninfo))) for each in by_way_of),
            ]:
                position = fetch_value(publisher, "select pg_current_wal_lsn()")
                while not fetch_value(publisher, QUERIES["slots_confirmed"], position=position):
                    time.sleep(0.1)

    def used() -> list[float]:
        of_relays = [sum(processor_seconds(each.server) for each in by_way_of)]
        return [
            processor_seconds(pair.portal),
            *(of_relays if by_way_of else []),
            processor_seconds(pair.courses),
        ]

    def spent(script: str, variables: dict[str, int | str], rate: int | None) -> list[float]:
        """Return milliseconds per change, at the portal, at relays and at the courses."""
        settle()
        before = used()
        ran = pgbench.run(
            pair.installation,
            conninfo,
            script,
            variables,
            transactions=effort.scale_changes // (1 if rate is None else 2),
            per_second=rate,
        )
        settle()
        after = used()
        return [
            (end - begin) * 1000 / ran.transactions
            for begin, end in zip(before, after, strict=True)
        ]

    take_back(portal, 0)
    set_triggers(portal, Triggers.ALL)
    enroll_in_three(portal, courses)
    tidy(portal)
    updates = {"users": USERS}
    results = {
        ("update", rate): spent("update_user", dict(updates), rate) for rate in (None, PER_SECOND)
    }
    # Enrollments into courses that have nobody: with a single one, all pairs would be taken.
    take_back(portal, 0)
    set_triggers(portal, Triggers.ALL)
    enrollments = enroll_variables(USERS, STEM, len(courses)) | {"members": 0}
    for rate in None, PER_SECOND:
        results["enrollment", rate] = spent("enroll", dict(enrollments), rate)
        enrollments["first"] = effort.scale_changes
    way = f" by {len(by_way_of)} relays; portal, relays" if by_way_of else "; portal"
    for order, ((what, rate), milliseconds) in enumerate(results.items()):
        speed = "flat out" if rate is None else f"at {rate}/s"
        yield Row(
            f"processor time per {what}, {speed}, courses attached: {len(courses)}{way} and courses",
            pysync=f"{', '.join(f'{each:.2f}' for each in milliseconds)} ms",
            details={"order": order, "milliseconds": milliseconds},
        )


def processor_seconds(server: Server) -> float:
    """Return the processor time of all of a server's processes, of those that have ended, too."""
    postmaster = _postmaster(server)
    total = 0.0
    for pid in processes(server):
        # One that ends in between is counted among its parent's, the next time.
        with suppress(FileNotFoundError, ProcessLookupError):
            process = Path("/proc") / str(pid)
            if pid == postmaster:
                # Its own, and its dead children's, in ticks.
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15])) / _TICKS
            else:
                total += int((process / "schedstat").read_text().split()[0]) / 1e9
    return total


def processes(server: Server) -> Iterator[int]:
    """Return a server's processes."""
    postmaster = _postmaster(server)
    for process in Path("/proc").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError, NotADirectoryError):
            if not process.name.isdecimal():
                continue
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if postmaster in (int(process.name), int(fields[1])):
                yield int(process.name)


def _postmaster(server: Server) -> int:
    return int((server.data / "postmaster.pid").read_text().split()[0])
