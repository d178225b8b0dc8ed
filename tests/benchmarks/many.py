"""Three hundred courses by way of relays: added, idle, and while the portal's users change.

What limits such a number first is looked for here: processors, memory, and how long a report takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from pysync.db.connections import connect
from pysync.demo.servers import Server
from pysync.types import CourseId, Unwatched
from pysync.verification.verify import verify
from pysync.watching.status import status
from tests.benchmarks.measure import Effort, Row
from tests.benchmarks.pair import (
    Relay,
    Say,
    add_courses,
    enroll_in_three,
    new_portal,
    relays,
    server_pair,
)
from tests.benchmarks.scale import processes, processor_seconds

USERS = 4_000
RELAYS = 10
SPARE = 30
IDLE_SECONDS = 20
PER_SECOND = 20


def measure(say: Say, effort: Effort) -> list[Row]:
    """Return what courses take, from when they are added."""
    number = 3 * effort.courses[-1]
    most = str(number + SPARE)
    settings = {
        "max_wal_senders": most,
        "max_logical_replication_workers": most,
        "max_worker_processes": str(number + 2 * SPARE),
        "max_connections": most,
    }
    with server_pair(say, more=settings) as pair:
        conninfo = new_portal(pair, "many", USERS, profiles=True)
        with closing(connect(conninfo)) as portal, relays(pair, conninfo, RELAYS) as found:
            courses = [CourseId(f"Bench/Many/{n}") for n in range(number)]
            began = time.monotonic()
            for start, relay in enumerate(found):
                add_courses(pair, conninfo, courses[start::RELAYS], f"m{start}", relay.relay_id)
                say(f"courses of {relay.relay_id} added after {time.monotonic() - began:.0f} s")
            rows = [Row("courses added, each", pysync=f"{_each(began, number):.2f} s")]
            enroll_in_three(portal, courses)
            servers = [pair.portal, pair.courses, *(each.server for each in found)]
            rows += _used("idle", conninfo, servers, number)
            stop = threading.Event()
            writer = threading.Thread(target=_write, args=(conninfo, stop))
            writer.start()
            try:
                rows += _used(f"at {PER_SECOND} updates/s", conninfo, servers, number)
            finally:
                stop.set()
                writer.join()
            rows.append(_memory(servers, found, number))
            began = time.monotonic()
            verified = verify(conninfo, [], Unwatched())
            wrong = [v for v in verified if v.error or v.differences or v.unsettled]
            rows.append(
                Row(
                    f"verified, {number} courses; that differ: {len(wrong)}",
                    pysync=f"{time.monotonic() - began:.1f} s",
                )
            )
            return rows


def _each(began: float, number: int) -> float:
    return (time.monotonic() - began) / number


def _write(conninfo: str, stop: threading.Event) -> None:
    with closing(connect(conninfo)) as portal:
        change = 0
        while not stop.wait(1 / PER_SECOND):
            change += 1
            portal.execute(
                "update public.auth_user set email = %s where id = %s",
                (f"many{change}@example.org", 1 + change * 37 % USERS),
            )


def _used(what: str, conninfo: str, servers: Sequence[Server], number: int) -> Iterator[Row]:
    """Measure processor time for a while, and then a report."""
    before = [processor_seconds(each) for each in servers]
    time.sleep(IDLE_SECONDS)
    portal, courses, *of_relays = (
        (processor_seconds(each) - begin) * 1000 / IDLE_SECONDS
        for each, begin in zip(servers, before, strict=True)
    )
    yield Row(
        f"{number} courses, {what}: processor time per second at portal, relays and courses",
        pysync=f"{portal:.0f}, {sum(of_relays):.0f} and {courses:.0f} ms",
    )
    began = time.monotonic()
    found = status(conninfo)
    seconds = time.monotonic() - began
    streaming = sum(each.state.value == "streaming" for each in found)
    yield Row(
        f"{number} courses, {what}: status, of which {streaming} of {len(found)} stream",
        pysync=f"{seconds:.1f} s",
    )


def _memory(servers: Sequence[Server], found: Sequence[Relay], number: int) -> Row:
    of_relays = {id(each.server) for each in found}
    sums = {True: 0.0, False: 0.0}
    for server in servers[1:]:
        sums[id(server) in of_relays] += sum(map(_megabytes, processes(server)))
    return Row(
        "memory per course, at relays and at the courses' server",
        pysync=f"{sums[True] / number:.1f} and {sums[False] / number:.1f} MB",
    )


def _megabytes(pid: int) -> float:
    """Return what a process has that no other one shares, and its part of what they do."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss_Anon":
                return int(value.split()[0]) / 1024
    return 0.0
