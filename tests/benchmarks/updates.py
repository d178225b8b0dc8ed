"""(a) Single-row user updates per second with and without pysync's triggers, as applications see it.

20,000 users, three enrollments each in eight registered courses, no subscription attached; four
client processes that do what a Python application does. What the server alone pays: singles.py.
"""

from __future__ import annotations

import random
import time
from contextlib import closing, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe

import psycopg

from pysync.db.connections import connect
from pysync.types import CourseId
from tests.benchmarks.measure import PER_SECOND, Comparison, Effort, Row, interleave
from tests.benchmarks.pair import (
    Pair,
    Triggers,
    enroll_in_three,
    new_portal,
    register_only,
    set_triggers,
)

USERS = 20_000
CLIENTS = 4
COURSES = [CourseId(f"Bench/Updates/{number}") for number in range(8)]


def measure(pair: Pair, effort: Effort) -> list[Row]:
    """Return updates per second as an application sees them."""
    conninfo = new_portal(pair, "updates", USERS, profiles=False)
    comparison = Comparison(
        f"(a) user updates, {CLIENTS} psycopg clients, BEGIN; UPDATE; COMMIT",
        PER_SECOND,
        at_least=0.80,
    )
    with closing(connect(conninfo)) as portal, closing(_Clients(conninfo)) as clients:
        register_only(portal, COURSES)
        enroll_in_three(portal, COURSES)

        def side(values: list[float], enabled: Triggers) -> None:
            set_triggers(portal, enabled)
            portal.execute("vacuum public.auth_user, course.auth_user")
            values.append(clients.rate(effort.rate_seconds))

        side([], Triggers.ALL)  # Brings every page to where it is in the long run.
        for done in interleave(
            effort.rate_rounds,
            lambda: side(comparison.beside, Triggers.NONE),
            lambda: side(comparison.pysync, Triggers.ALL),
        ):
            pair.say(f"(a): round {done} of {effort.rate_rounds}")
    return [comparison.row()]


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
