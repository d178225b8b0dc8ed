"""What a change costs the portal's server and the courses' server when many courses are attached.

Each commit wakes every walsender, and each decodes everything: so what counts is processor time, of all
of a server's processes, until every course has what was committed. Users are in three courses each,
fewer where there are fewer; flat out, where commits are decoded in passing, and at 100 a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from pysync.db.connections import Connection, connect, fetch_value
from pysync.demo.servers import Server
from pysync.types import CourseId
from tests.benchmarks import pgbench
from tests.benchmarks.measure import Effort, Row
from tests.benchmarks.pair import (
    QUERIES,
    Pair,
    Say,
    Triggers,
    add_courses,
    enroll_in_three,
    new_portal,
    server_pair,
    set_triggers,
    tidy,
)
from tests.benchmarks.singles import enroll_variables, take_back

USERS = 4_000
STEM = "Bench/Scale"
PER_SECOND = 100
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
    return sorted(rows, key=lambda row: row.details["order"])


def _stage(
    pair: Pair, portal: Connection, conninfo: str, courses: list[CourseId], effort: Effort
) -> Iterator[Row]:
    """Measure with the courses that are attached now."""

    def settle() -> None:
        position = fetch_value(portal, "select pg_current_wal_lsn()")
        while not fetch_value(portal, QUERIES["slots_confirmed"], position=position):
            time.sleep(0.1)

    def spent(script: str, variables: dict[str, int | str], rate: int | None) -> list[float]:
        """Return milliseconds per change, at the portal and at the courses."""
        settle()
        before = _processor_seconds(pair.portal), _processor_seconds(pair.courses)
        ran = pgbench.run(
            pair.installation,
            conninfo,
            script,
            variables,
            transactions=effort.scale_changes // (1 if rate is None else 2),
            per_second=rate,
        )
        settle()
        after = _processor_seconds(pair.portal), _processor_seconds(pair.courses)
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
    for order, ((what, rate), (at_portal, at_courses)) in enumerate(results.items()):
        speed = "flat out" if rate is None else f"at {rate}/s"
        yield Row(
            f"processor time per {what}, {speed}, courses attached: {len(courses)}; portal and courses",
            pysync=f"{at_portal:.2f} and {at_courses:.2f} ms",
            details={"order": order, "milliseconds": [at_portal, at_courses]},
        )


def _processor_seconds(server: Server) -> float:
    """Return the processor time of all of a server's processes, of those that have ended, too."""
    postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
    total = 0.0
    for process in Path("/proc").iterdir():
        # One that ends in between is counted among its parent's, the next time.
        with suppress(FileNotFoundError, ProcessLookupError, NotADirectoryError):
            if not process.name.isdecimal():
                continue
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(process.name) == postmaster:
                # Its own, and its dead children's, in ticks.
                total += sum(map(int, fields[11:15])) / _TICKS
            elif int(fields[1]) == postmaster:
                total += int((process / "schedstat").read_text().split()[0]) / 1e9
    return total
