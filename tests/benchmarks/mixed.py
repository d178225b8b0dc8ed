"""How often transactions that meet fail, with and without pysync: deadlocks and serialization failures.

A dozen clients run transactions of a portal's on few users, so that they meet, each at an isolation
level drawn anew. Two of the kinds, profile before user and user before profile in one transaction,
deadlock with each other on any portal: with only one of them nothing may deadlock.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.errors import DeadlockDetected, SerializationFailure

from pysync.db.connections import Connection, connect, fetch_value
from pysync.types import CourseId
from tests.benchmarks.measure import Effort, Row
from tests.benchmarks.pair import (
    QUERIES,
    Pair,
    Triggers,
    enroll_in_three,
    new_portal,
    register_only,
    set_triggers,
)

USERS = 40
COURSES = [CourseId(f"Bench/Mixed/{number}") for number in range(8)]
CLIENTS = 12
LEVELS: Final = (
    psycopg.IsolationLevel.READ_COMMITTED,
    psycopg.IsolationLevel.REPEATABLE_READ,
    psycopg.IsolationLevel.SERIALIZABLE,
)


@dataclass
class Work:
    """One client's choices: a user, a course and a text for the next transaction."""

    session: Connection
    users: Sequence[int]
    courses: Sequence[str]
    numbers: random.Random

    def enroll(self) -> None:
        self._run("mixed_enroll")

    def unenroll(self) -> None:
        self._run("mixed_unenroll")

    def update_user(self) -> None:
        self._run("mixed_update_user")

    def update_profile(self) -> None:
        self._run("mixed_update_profile")

    def profile_then_user(self) -> None:
        self._run("mixed_update_profile", "mixed_update_user")

    def user_then_profile(self) -> None:
        self._run("mixed_update_user", "mixed_update_profile")

    def enroll_then_update_user(self) -> None:
        self._run("mixed_enroll", "mixed_update_user")

    def enroll_many(self) -> None:
        self._run("mixed_enroll_many")

    def update_many_profiles(self) -> None:
        self._run("mixed_update_many_profiles")

    def _run(self, *statements: str) -> None:
        """Run statements about one user in one transaction."""
        values = {
            "user": self.numbers.choice(self.users),
            "course": self.numbers.choice(self.courses),
            "text": f"text {self.numbers.randrange(1_000_000)}",
            "users": self.numbers.sample(self.users, len(self.users) // 4),
        }
        self.session.set_isolation_level(self.numbers.choice(LEVELS))
        with self.session.transaction():
            for statement in statements:
                self.session.execute(QUERIES[statement], values)


KINDS: Final[dict[Callable[[Work], None], int]] = {
    Work.enroll: 6,
    Work.unenroll: 6,
    Work.update_user: 6,
    Work.update_profile: 4,
    Work.profile_then_user: 4,
    Work.user_then_profile: 4,
    Work.enroll_then_update_user: 4,
    Work.enroll_many: 1,
    Work.update_many_profiles: 1,
}
"""What transactions do, and how often beside each other."""

USER_LAST: Final = {kind: n for kind, n in KINDS.items() if kind is not Work.user_then_profile}
USER_FIRST: Final = {kind: n for kind, n in KINDS.items() if kind is not Work.profile_then_user}
"""Without one of the two that deadlock with each other wherever they meet."""


@dataclass
class Counts:
    """How many transactions there were, and how many of them failed in which way."""

    transactions: int = 0
    deadlocks: Counter[str] = field(default_factory=Counter)
    """By what the one that was ended did."""
    serialization_failures: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.transactions + other.transactions,
            self.deadlocks + other.deadlocks,
            self.serialization_failures + other.serialization_failures,
        )

    def per_thousand(self) -> str:
        """Return both counts per 1,000 transactions, deadlocks first."""
        thousands = self.transactions / 1000
        failures = self.deadlocks.total(), self.serialization_failures
        return ", ".join(f"{count / thousands:.1f}" for count in failures)

    def details(self) -> dict[str, Any]:
        return vars(self) | {"deadlocks": dict(self.deadlocks)}


def run(
    conninfo: str,
    users: Sequence[int],
    courses: Sequence[str],
    seconds: float,
    kinds: dict[Callable[[Work], None], int] = KINDS,
    seed: int = 0,
    clients: int = CLIENTS,
) -> Counts:
    """Let clients run transactions for some time; any other failure is an error.

    :param users: each has a profile.
    :param kinds: what they do, each with its weight.
    """
    until = time.monotonic() + seconds
    counts = [Counts() for _ in range(clients)]
    errors: list[BaseException] = []

    def client(number: int) -> None:
        numbers = random.Random(f"{seed} {number}")
        try:
            with psycopg.connect(conninfo) as session:
                work = Work(session, users, courses, numbers)
                while time.monotonic() < until and not errors:
                    (kind,) = numbers.choices([*kinds], [*kinds.values()])
                    counts[number].transactions += 1
                    try:
                        kind(work)
                    except DeadlockDetected:
                        counts[number].deadlocks[kind.__name__] += 1
                    except SerializationFailure:
                        counts[number].serialization_failures += 1
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts, Counts())


def measure(pair: Pair, effort: Effort) -> list[Row]:
    """Return failures per 1,000 transactions without pysync's triggers and with them."""
    # Each deadlock would keep those who are in it for a second.
    conninfo = new_portal(pair, "mixed", USERS, profiles=True)
    impatient = make_conninfo(conninfo, options="-c deadlock_timeout=50ms")
    rows = []
    with closing(connect(conninfo)) as portal:
        register_only(portal, COURSES)
        users = fetch_value(portal, "select array_agg(id order by id) from public.auth_user")
        for title, kinds in (
            ("40P01, 40001 per 1,000 mixed transactions, user before profile", USER_FIRST),
            ("      the same, profile before user", USER_LAST),
            ("      the same, both, which deadlock with each other anyway", KINDS),
        ):
            without, with_pysync = Counts(), Counts()
            for seed in range(2):
                for enabled in Triggers.NONE, Triggers.ALL:
                    _start_over(portal, enabled)
                    counts = run(impatient, users, COURSES, effort.mixed_seconds, kinds, seed)
                    if enabled is Triggers.ALL:
                        with_pysync += counts
                    else:
                        without += counts
            pair.say(title.strip())
            rows.append(
                Row(
                    title,
                    without.per_thousand(),
                    with_pysync.per_thousand(),
                    target="no deadlock" if kinds is not KINDS else "-",
                    met=not with_pysync.deadlocks if kinds is not KINDS else None,
                    details={"beside": without.details(), "pysync": with_pysync.details()},
                )
            )
    return rows


def _start_over(portal: Connection, enabled: Triggers) -> None:
    """What was enrolled without the triggers is unknown to the fan-out: enroll anew."""
    set_triggers(portal, Triggers.ALL)
    portal.execute("delete from public.student_courseenrollment")
    enroll_in_three(portal, COURSES)
    set_triggers(portal, enabled)
