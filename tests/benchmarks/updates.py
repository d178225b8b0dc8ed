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
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile

import psycopg

from pysync.db.connections import Connection, connect
from pysync.types import CourseId
from tests.benchmarks.measure import PER_SECOND, Comparison, Effort, interleave
from tests.benchmarks.pair import (
    Pair,
    enroll_in_three,
    new_portal,
    register_only,
    set_triggers,
)

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
        with ProcessPoolExecutor(CLIENTS, mp_context=get_context("spawn")) as pool:
            _compare(
                pair,
                portal,
                effort,
                application,
                lambda: _psycopg_rate(pool, conninfo, effort.seconds),
            )
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
        set_triggers(portal, "auth_user", enabled=enabled)
        portal.execute("vacuum public.auth_user, course.auth_user")
        values.append(rate())

    set_triggers(portal, "auth_user", enabled=True)
    rate()  # Brings every page to where it is in the long run.
    for done in interleave(
        effort.rounds,
        lambda: side(comparison.without, enabled=False),
        lambda: side(comparison.with_pysync, enabled=True),
    ):
        pair.say(f"{comparison.title.strip()}: round {done} of {effort.rounds}")


def _psycopg_rate(pool: ProcessPoolExecutor, conninfo: str, seconds: float) -> float:
    begin = time.monotonic() + 0.3
    futures = [
        pool.submit(_client, conninfo, seed, begin, begin + seconds) for seed in range(CLIENTS)
    ]
    return sum(future.result() for future in futures) / seconds


def _client(conninfo: str, seed: int, begin: float, end: float) -> int:
    """Update users one by one as an application does; returns how many from `begin` to `end`.

    ``begin`` and ``end`` are readings of the monotonic clock, which processes share.
    """
    numbers = random.Random(seed)
    updates = 0
    with psycopg.connect(conninfo) as connection:
        while (now := time.monotonic()) < end:
            connection.execute(
                "update public.auth_user set last_login = now(), email = %s where id = %s",
                (f"user{numbers.randrange(1_000_000)}@example.org", 1 + numbers.randrange(USERS)),
            )
            connection.commit()
            updates += now >= begin  # What comes before warms caches and prepares the statement.
    return updates


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
                f"--time={max(round(effort.seconds), 1)}",
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
