"""Concurrent transactions never leave a stale, missing or left-over copy, at any isolation level.

Each case plays two real transactions in a fixed order. Either one fails with 40001 and succeeds
when run again, or both succeed; afterwards the fan-out holds what the portal's own tables say.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from tests.integration.fan_out import TABLES, App, application, differences
from tests.support import Cluster, Site

pytestmark = pytest.mark.oldest_and_newest(
    "hundreds of orders take minutes; isolation hasn't changed between the two"
)

LEVELS = ("read committed", "repeatable read", "serializable")
DEADLINE_SECONDS = 20
NO_USER = "23503"
TAKEN = "23505"

_numbers = itertools.count(1)


class Timing(Enum):
    """When the second transaction takes its snapshot, and when the first commits."""

    OVERLAP = "overlap"
    """First writes, second begins and writes, first commits."""

    LOOKED = "looked"
    """Second looks, first writes, second writes, first commits."""

    STALE = "stale"
    """Second looks, first writes and commits, second writes."""


@dataclass(frozen=True)
class Scenario:
    """Two statements, each in a transaction of its own, and what is there before them.

    ``refused`` are SQLSTATEs with which PostgreSQL itself may refuse the second of the two;
    ``after`` is run when both are over.
    """

    name: str
    one: str
    other: str
    before: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    only_this_order: bool = False

    def swapped(self) -> Scenario:
        return replace(self, one=self.other, other=self.one)


ENROLL = "insert into student_courseenrollment (user_id, course_id) values (%(user)s, %(course)s)"
ENROLL_ELSEWHERE = (
    "insert into student_courseenrollment (user_id, course_id) values (%(user)s, %(second)s)"
)
UNENROLL = (
    "delete from student_courseenrollment where user_id = %(user)s and course_id = %(course)s"
)
MOVE_ENROLLMENT = (
    "update student_courseenrollment set user_id = %(another)s"
    " where user_id = %(user)s and course_id = %(course)s"
)
CHANGE_ENROLLMENT = (
    "update student_courseenrollment set created = now() - interval '1 year'"
    " where user_id = %(user)s"
)
UPDATE_USER = "update auth_user set email = 'new@example.org' where id = %(user)s"
RENAME_USER = "update auth_user set username = username || '-new' where id = %(user)s"
DELETE_USER = "delete from auth_user where id = %(user)s"
ADD_PROFILE = "insert into auth_userprofile (user_id, name) values (%(user)s, 'Old')"
UPDATE_PROFILE = "update auth_userprofile set name = 'New' where user_id = %(user)s"
DELETE_PROFILE = "delete from auth_userprofile where user_id = %(user)s"
GIVE_PROFILE = "update auth_userprofile set user_id = %(another)s where user_id = %(user)s"
TAKE_PROFILE = "update auth_userprofile set user_id = %(user)s where user_id = %(another)s"
PROFILE_CHANGES = {ADD_PROFILE, UPDATE_PROFILE, DELETE_PROFILE, GIVE_PROFILE, TAKE_PROFILE}
ADD_OTHER_PROFILE = "insert into auth_userprofile (user_id, name) values (%(another)s, 'Other')"
REGISTER = (
    "insert into pysync.course (course_id, replication_name, conninfo, portal_conninfo,"
    " replication_role) values (%(late)s, %(late)s, '', '', '')"
)
ENROLL_LATE = ENROLL.replace("course)s", "late)s")
UNENROLL_LATE = UNENROLL.replace("course)s", "late)s")
MOVE_TO_LATE = "update student_courseenrollment set course_id = %(late)s where user_id = %(user)s"
LATE = (ENROLL_LATE, REGISTER)
BACKFILL = "select pysync.backfill(%(late)s, 0, 10)"

SCENARIOS = (
    Scenario("enroll-user_update", ENROLL, UPDATE_USER),
    Scenario("enroll-user_rename", ENROLL, RENAME_USER),
    Scenario("enroll-profile_insert", ENROLL, ADD_PROFILE),
    Scenario("enroll-profile_update", ENROLL, UPDATE_PROFILE, (ADD_PROFILE,)),
    Scenario("enroll-profile_delete", ENROLL, DELETE_PROFILE, (ADD_PROFILE,)),
    Scenario("enroll-profile_given_away", ENROLL, GIVE_PROFILE, (ADD_PROFILE,)),
    Scenario("enroll-profile_taken_over", ENROLL, TAKE_PROFILE, (ADD_OTHER_PROFILE,)),
    Scenario("enroll-enroll_elsewhere", ENROLL, ENROLL_ELSEWHERE, (ADD_PROFILE,)),
    Scenario("enroll-enroll_there_too", ENROLL, ENROLL, refused=(TAKEN,)),
    Scenario("enroll-user_delete", ENROLL, DELETE_USER, (ADD_PROFILE,), (NO_USER,)),
    Scenario("enroll_again-user_update", ENROLL, UPDATE_USER, (ENROLL, UNENROLL, RENAME_USER)),
    Scenario(
        "enroll_again-profile_delete", ENROLL, DELETE_PROFILE, (ADD_PROFILE, ENROLL, UNENROLL)
    ),
    Scenario("unenroll-user_update", UNENROLL, UPDATE_USER, (ENROLL,)),
    Scenario("unenroll-profile_insert", UNENROLL, ADD_PROFILE, (ENROLL,)),
    Scenario("unenroll-profile_update", UNENROLL, UPDATE_PROFILE, (ADD_PROFILE, ENROLL)),
    Scenario("unenroll-profile_delete", UNENROLL, DELETE_PROFILE, (ADD_PROFILE, ENROLL)),
    Scenario("unenroll-user_delete", UNENROLL, DELETE_USER, (ENROLL,)),
    Scenario("unenroll-enroll_elsewhere", UNENROLL, ENROLL_ELSEWHERE, (ENROLL,)),
    Scenario("move-user_update", MOVE_ENROLLMENT, UPDATE_USER, (ENROLL,)),
    Scenario("move-user_delete", MOVE_ENROLLMENT, DELETE_USER, (ENROLL,)),
    Scenario("enrollment_update-unenroll", CHANGE_ENROLLMENT, UNENROLL, (ENROLL,)),
    Scenario("user_update-profile_update", UPDATE_USER, UPDATE_PROFILE, (ADD_PROFILE, ENROLL)),
    Scenario("user_update-user_rename", UPDATE_USER, RENAME_USER, (ENROLL,)),
    Scenario("user_delete-profile_update", DELETE_USER, UPDATE_PROFILE, (ADD_PROFILE, ENROLL)),
    Scenario("backfill-unenroll", BACKFILL, UNENROLL_LATE, LATE),
    Scenario("backfill-user_update", BACKFILL, UPDATE_USER, LATE),
    Scenario("backfill-user_delete", BACKFILL, DELETE_USER, LATE),
    Scenario("backfill-profile_insert", BACKFILL, ADD_PROFILE, LATE),
    Scenario("backfill-profile_update", BACKFILL, UPDATE_PROFILE, (ADD_PROFILE, *LATE)),
    Scenario("backfill-profile_delete", BACKFILL, DELETE_PROFILE, (ADD_PROFILE, *LATE)),
    Scenario("backfill-enroll_elsewhere", BACKFILL, ENROLL, LATE),
    Scenario("register-enroll", REGISTER, ENROLL_LATE, only_this_order=True),
    Scenario("register-unenroll", REGISTER, UNENROLL_LATE, (ENROLL_LATE,), only_this_order=True),
    Scenario("enroll-register", ENROLL_LATE, REGISTER, after=(BACKFILL,), only_this_order=True),
)


class Portal:
    """The portal that all cases share, and connections to it that stay open."""

    def __init__(self, app: App, counts: str = "true") -> None:
        self.app = app
        self.site = app.site
        self.counts = counts
        self.admin = app.site.connect()
        self._connections: dict[tuple[bool, int], psycopg.Connection[TupleRow]] = {}

    def connection(self, statement: str, place: int) -> psycopg.Connection[TupleRow]:
        """Return a connection of who runs a statement: the application, or pysync."""
        ours = statement in {REGISTER, BACKFILL}
        if (ours, place) not in self._connections:
            opened = self.site.connect() if ours else self.app.connect()
            # Or a transaction that waits for one that we never end would keep us waiting, too.
            opened.execute(f"set statement_timeout = '{DEADLINE_SECONDS}s'")
            self._connections[ours, place] = opened
        return self._connections[ours, place]

    def reset(self, names: dict[str, int | str]) -> None:
        """Clear away what a case left, whatever became of it."""
        for connection in self._connections.values():
            connection.execute("rollback")
        with self.admin.transaction():
            self.admin.execute("delete from auth_user where id in (%(user)s, %(another)s)", names)
            for table in TABLES:
                self.admin.execute(f"delete from course.{table}")
            self.admin.execute("delete from pysync.course")


@dataclass(frozen=True)
class Case:
    """Fresh users and courses."""

    portal: Portal
    names: dict[str, int | str]

    def run(self, statement: str) -> None:
        """Run a statement by itself."""
        self.portal.connection(statement, 1).execute(statement, self.names)


class Transaction:
    """A transaction of one statement, step by step; there are two places for them."""

    def __init__(self, case: Case, statement: str, level: str, place: int) -> None:
        self.case = case
        self.statement = statement
        # pysync's own connections are pinned to READ COMMITTED.
        self.level = LEVELS[0] if statement in {REGISTER, BACKFILL} else level
        self.connection = case.portal.connection(statement, place)
        self.open = False

    @property
    def process_id(self) -> int:
        return self.connection.info.backend_pid

    def begin(self) -> None:
        if not self.open:
            self.connection.execute("begin isolation level " + self.level)
            self.open = True

    def look(self) -> None:
        """Take the snapshot."""
        self.begin()
        self.connection.execute("select 1")

    def write(self) -> None:
        self.begin()
        self.connection.execute(self.statement, self.case.names)

    def commit(self) -> None:
        self.connection.execute("commit")
        self.open = False

    def again(self) -> None:
        self.connection.execute("rollback")
        self.open = False
        self.write()
        self.commit()


def is_blocked(case: Case, transaction: Transaction) -> bool:
    (answer,) = case.portal.admin.execute(
        "select cardinality(pg_blocking_pids(%s)) > 0", (transaction.process_id,)
    ).fetchall()
    return bool(answer[0])


def failure(step: Callable[[], None]) -> psycopg.Error | None:
    try:
        step()
    except psycopg.Error as error:
        return error
    return None


def write_and_wait(
    case: Case, transaction: Transaction, pool: ThreadPoolExecutor
) -> Future[psycopg.Error | None]:
    """Start writing in a thread; return when it is done or waits for a lock."""
    future = pool.submit(failure, transaction.write)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not future.done():
        if is_blocked(case, transaction):
            break
        assert time.monotonic() < deadline, "neither done nor waiting for a lock"
        time.sleep(0.001)
    return future


def play(case: Case, scenario: Scenario, level: str, timing: Timing) -> None:
    """Play one interleaving and check its outcome."""
    for statement in scenario.before:
        case.run(statement)
    first = Transaction(case, scenario.one, level, 1)
    second = Transaction(case, scenario.other, level, 2)
    first_error: psycopg.Error | None = None
    if timing is not Timing.OVERLAP:
        second.look()
    first.write()
    with ThreadPoolExecutor(2) as pool:
        if timing is Timing.STALE:
            first_error = failure(first.commit)
        future = write_and_wait(case, second, pool)
        if timing is Timing.OVERLAP and level == LEVELS[0] and not is_independent(scenario):
            assert not future.done(), "the second transaction met nothing of the first"
        # Profiles are carried when a transaction ends, which may wait for the other one.
        ending = None if timing is Timing.STALE else pool.submit(failure, first.commit)
        second_error = future.result(DEADLINE_SECONDS) or failure(second.commit)
        if ending is not None:
            first_error = ending.result(DEADLINE_SECONDS)
    for transaction, error in ((first, first_error), (second, second_error)):
        settle(transaction, error, scenario.refused if transaction is second else ())
    for statement in scenario.after:
        case.run(statement)
    assert differences(case.portal.site, case.portal.counts) == []


def settle(transaction: Transaction, error: psycopg.Error | None, refused: tuple[str, ...]) -> None:
    """Run a transaction again that failed with 40001; nothing else may have happened to it."""
    attempts = 0
    while error is not None and error.sqlstate == "40001" and attempts < 3:
        assert transaction.level != LEVELS[0], "READ COMMITTED transactions aren't run again"
        error = failure(transaction.again)
        attempts += 1
    if error is not None and error.sqlstate in refused:
        return
    if error is not None:
        raise error


def is_independent(scenario: Scenario) -> bool:
    """Tell whether the two need not wait for each other before they end, at READ COMMITTED."""
    both = {scenario.one, scenario.other}
    return bool(both & PROFILE_CHANGES) and DELETE_USER not in both


ON_ONE_VERSION = pytest.mark.newest("with a snapshot that stays, whoever comes late gets 40001")
"""Levels above READ COMMITTED; what a statement sees after a wait differs there alone."""


def cases(scenarios: Iterable[Scenario] = SCENARIOS) -> Iterator[object]:
    for scenario, level, timing in itertools.product(scenarios, LEVELS, Timing):
        # At READ COMMITTED the same as OVERLAP, and SERIALIZABLE has the snapshots of the level below.
        if timing is Timing.LOOKED and level != "repeatable read":
            continue
        for order, played in (("", scenario), ("swapped-", scenario.swapped())):
            if order and scenario.only_this_order:
                continue
            identifier = f"{scenario.name}-{order}{level.replace(' ', '_')}-{timing.value}"
            marks = () if level == LEVELS[0] else ON_ONE_VERSION
            yield pytest.param(played, level, timing, id=identifier, marks=marks)


@pytest.fixture(scope="module")
def portal(
    portal_server: Cluster, course_server: Cluster, portal_template: str
) -> Iterator[Portal]:
    """A portal that all cases share: each has users and courses of its own."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    site.execute(
        f"alter database {conninfo_to_dict(site.portal)['dbname']} set synchronous_commit = off"
    )
    with application(site) as app:
        yield Portal(app)
    site.close()


@contextmanager
def fresh(portal: Portal) -> Iterator[Case]:
    """Give users and courses that no other case has."""
    number = next(_numbers)
    names: dict[str, int | str] = {
        "user": portal.app.user(f"user-{number}"),
        "another": portal.app.user(f"another-{number}"),
        "course": f"course-{number}",
        "second": f"second-{number}",
        "late": f"late-{number}",
    }
    for course in ("course", "second"):
        portal.admin.execute(REGISTER.replace("late", course), names)
    yield Case(portal, names)
    portal.reset(names)


@pytest.fixture
def case(portal: Portal) -> Iterator[Case]:
    with fresh(portal) as case:
        yield case


@pytest.mark.parametrize(("scenario", "level", "timing"), list(cases()))
def test_two_transactions(case: Case, scenario: Scenario, level: str, timing: Timing) -> None:
    play(case, scenario, level, timing)


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize(
    ("before", "statement"),
    [((), ENROLL_LATE), ((ENROLL_LATE,), UNENROLL_LATE), ((ENROLL,), MOVE_TO_LATE)],
    ids=["enroll", "unenroll", "move"],
)
def test_transactions_older_than_a_registration_fail_with_40001(
    case: Case, before: tuple[str, ...], statement: str, level: str
) -> None:
    for earlier in before:
        case.run(earlier)
    old = Transaction(case, statement, level, 2)
    old.look()
    case.run(REGISTER)
    error = failure(old.write)
    assert error is not None
    assert error.sqlstate == "40001"
    old.again()
    assert differences(case.portal.site) == []


def test_read_committed_transactions_older_than_a_registration_see_it(case: Case) -> None:
    old = Transaction(case, ENROLL_LATE, LEVELS[0], 2)
    old.look()
    case.run(REGISTER)
    old.write()
    old.commit()
    assert differences(case.portal.site) == []


@pytest.mark.parametrize("level", LEVELS)
def test_a_queue_of_three_transactions_for_one_user(case: Case, level: str) -> None:
    queue = [
        Transaction(case, statement, level, place)
        for place, statement in enumerate((ENROLL, UPDATE_USER, ENROLL_ELSEWHERE), 1)
    ]
    for transaction in queue:
        transaction.look()
    queue[0].write()
    with ThreadPoolExecutor(2) as pool:
        futures = [write_and_wait(case, transaction, pool) for transaction in queue[1:]]
        assert not any(future.done() for future in futures)
        queue[0].commit()
        for transaction, future in zip(queue[1:], futures, strict=True):
            error = future.result(DEADLINE_SECONDS) or failure(transaction.commit)
            settle(transaction, error, ())
    assert differences(case.portal.site) == []


@pytest.mark.parametrize("level", LEVELS[1:])
def test_taking_a_name_that_a_later_frozen_copy_holds(case: Case, level: str) -> None:
    enroll_another = ENROLL.replace("user)s", "another)s")
    case.run(ENROLL)
    case.run(enroll_another)
    taker = Transaction(
        case,
        "update auth_user set username = %(name)s where id = %(user)s",
        level,
        2,
    )
    case.names["name"] = f"another-{next(_numbers)}"
    case.run("update auth_user set username = %(name)s where id = %(another)s")
    taker.look()
    case.run("delete from student_courseenrollment where user_id = %(another)s")
    case.run("update auth_user set username = username || '-gone' where id = %(another)s")
    settle(taker, failure(taker.write) or failure(taker.commit), ())
    assert differences(case.portal.site) == []


def test_suppressed_updates_of_users_make_no_copy_stale(case: Case) -> None:
    admin = case.portal.admin
    admin.execute(
        "create trigger app_suppress before update on auth_user for each row"
        " execute function suppress_redundant_updates_trigger()"
    )
    try:
        updating = Transaction(case, UPDATE_USER, LEVELS[1], 2)
        updating.look()
        case.run(ENROLL)
        settle(updating, failure(updating.write) or failure(updating.commit), ())
        assert differences(case.portal.site) == []
    finally:
        case.portal.reset(case.names)
        admin.execute("drop trigger app_suppress on auth_user")


def test_enrollments_that_change_places_never_deadlock(case: Case) -> None:
    case.run(ENROLL)
    case.run(ENROLL_ELSEWHERE.replace("user)s", "another)s"))
    holding = Transaction(
        case, "select from course.auth_user where id = %(user)s for update", LEVELS[0], 3
    )
    holding.connection = case.portal.site.connect()
    there = Transaction(case, MOVE_ENROLLMENT, LEVELS[0], 1)
    back = Transaction(
        case,
        "update student_courseenrollment set user_id = %(user)s"
        " where user_id = %(another)s and course_id = %(second)s",
        LEVELS[0],
        2,
    )
    holding.write()
    with ThreadPoolExecutor(2) as pool:
        futures = [write_and_wait(case, transaction, pool) for transaction in (there, back)]
        holding.commit()
        errors = []
        for transaction, future in zip((there, back), futures, strict=True):
            errors.append(future.result(DEADLINE_SECONDS))
            transaction.connection.execute("commit")
    for error in errors:
        settle(there, error, ())
    assert differences(case.portal.site) == []


def test_saving_profile_and_user_in_one_transaction_never_deadlocks_with_enrolling(
    case: Case,
) -> None:
    case.run(ADD_PROFILE)
    saving = Transaction(case, UPDATE_PROFILE, LEVELS[0], 1)
    enrolling = Transaction(case, ENROLL, LEVELS[0], 2)
    saving.write()
    enrolling.write()
    saving.statement = UPDATE_USER
    with ThreadPoolExecutor(1) as pool:
        future = write_and_wait(case, saving, pool)
        assert not future.done()
        enrolling.commit()
        assert future.result(DEADLINE_SECONDS) is None
    saving.commit()
    assert differences(case.portal.site) == []
