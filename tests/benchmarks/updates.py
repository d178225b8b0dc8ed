"""(a) Single-row user updates per second with and without the fan-out triggers.

20,000 users, three enrollments each in eight registered courses, no subscription attached. What an
application pays is measured by four client processes that do what a Python application does; what
the server pays by pgbench, without an application's own work and waiting in between.
"""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from tempfile import NamedTemporaryFile

import psycopg

from pysync.db.connections import Connection, connect
from pysync.types import CourseId
from tests.benchmarks.measure import PER_SECOND, Comparison, Effort, interleave
from tests.benchmarks.pair import Pair, enroll_in_three, new_portal, register_only, set_triggers

USERS = 20_000
CLIENTS = 4
COURSES = [CourseId(f"Bench/Updates/{number}") for number in range(8)]

_PGBENCH_SCRIPT = f"""\
\\set id random(1, {USERS})
\\set n random(1, 1000000)
update public.auth_user set last_login = now(), email = 'user' || :n || '@example.org' where id = :id;
"""


def measure(pair: Pair, effort: Effort) -> list[Comparison]:
    """Return updates per second as an application and as pgbench sees them."""
    conninfo = new_portal(pair, "updates", USERS, profiles=False)
    application = Comparison(
        f"(a) user updates, {CLIENTS} psycopg clients, BEGIN; UPDATE; COMMIT",
        PER_SECOND,
        at_least=0.80,
    )
    server = Comparison(
        f"      server alone: {CLIENTS} pgbench clients, prepared, autocommit", PER_SECOND
    )
    with closing(connect(conninfo)) as portal:
        register_only(portal, COURSES)
        enroll_in_three(portal, COURSES)
        with closing(_Clients(conninfo)) as clients:
            _compare(pair, portal, effort, application, lambda: clients.rate(effort.rate_seconds))
        _compare(pair, portal, effort, server, lambda: _pgbench_rate(pair, conninfo, effort))
    return [application, server]


def _compare(
    pair: Pair,
    portal: Connection,
    effort: Effort,
    comparison: Comparison,
    rate: Callable[[], float],
) -> None:
    def side(values: list[float], *, enabled: bool) -> None:
        set_triggers(portal, "auth_user", enabled="course" if enabled else None)
        portal.execute("vacuum public.auth_user, course.auth_user")
        values.append(rate())

    set_triggers(portal, "auth_user", enabled="course")
    rate()  # Brings every page to where it is in the long run.
    for done in interleave(
        effort.rate_rounds,
        lambda: side(comparison.without, enabled=False),
        lambda: side(comparison.with_pysync, enabled=True),
    ):
        pair.say(f"{comparison.title.strip()}: round {done} of {effort.rate_rounds}")


class _Clients:
    """Client processes that each hold a connection and update users when told to."""

    def __init__(self, conninfo: str) -> None:
        context = get_context("spawn")
        self._pipes: list[Pipe[float, float]] = []
        for seed in range(CLIENTS):
            ours, theirs = context.Pipe()
            context.Process(target=_client, args=(theirs, conninfo, seed), daemon=True).start()
            theirs.close()
            self._pipes.append(ours)

    def rate(self, seconds: float) -> float:
        """Let all of them update users for some seconds; returns updates per second."""
        for pipe in self._pipes:
            pipe.send(seconds)
        return sum(pipe.recv() for pipe in self._pipes)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()


def _client(pipe: Pipe[float, float], conninfo: str, seed: int) -> None:
    """Update random users one by one, as an application does, whenever the pipe says how long."""
    numbers = random.Random(seed)
    with psycopg.connect(conninfo) as connection, suppress(EOFError):
        while True:
            seconds = pipe.recv()
            begin = time.perf_counter()
            updates = 0
            while time.perf_counter() < begin + seconds:
                connection.execute(
                    "update public.auth_user set last_login = now(), email = %s where id = %s",
                    (f"user{numbers.randrange(1_000_000)}@example.org", numbers.randint(1, USERS)),
                )
                connection.commit()
                updates += 1
            pipe.send(updates / (time.perf_counter() - begin))


def _pgbench_rate(pair: Pair, conninfo: str, effort: Effort) -> float:
    with NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(_PGBENCH_SCRIPT)
        script.flush()
        output = subprocess.run(
            [
                pair.installation.bindir / "pgbench",
                "--no-vacuum",
                "--protocol=prepared",
                f"--client={CLIENTS}",
                "--jobs=2",
                f"--time={max(round(effort.rate_seconds), 1)}",
                f"--file={Path(script.name)}",
                conninfo,
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    found = re.search(r"^tps = ([0-9.]+)", output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pgbench printed no rate: {output}")
    return float(found.group(1))
