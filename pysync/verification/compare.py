"""The leg between the servers: fan-out against course database, range by range."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from psycopg import sql

from pysync.db.connections import Connection, connect, fetch_value
from pysync.diagnosis import grants
from pysync.errors import ChangesMissingError, ReplicationError
from pysync.migrate import require_head
from pysync.models.replicated import ReplicatedTable
from pysync.replication import identities, marks, registry, subscriptions
from pysync.replication.databases import connect_course
from pysync.replication.registry import Course
from pysync.verification.rows import Hashed, Range, hashes_between, hashes_of, pin, ranges

FENCE_SECONDS: Final = 60
"""How long a course may take to receive what the portal had committed."""

RANGES: Final = 4096
"""Into how many ranges of keys a table is divided at most, unless it is small."""

MIN_SHIFT: Final = 10
"""Binary logarithm of a range's keys, at least."""

ROWS_LOOKED_INTO: Final = 10_000
"""About how many rows of ranges that differ are held at a time."""

ROWS_AT_ONCE: Final = 1000
"""Rows that are looked at again behind one fence."""

ROUNDS: Final = 2
"""How often rows that differ are looked at again before they are locked."""

T = TypeVar("T")


@dataclass(frozen=True)
class Sides:
    """Connections to both sides of a course.

    :param marker: to the portal too: a mark is sent while `portal` holds locks.
    """

    course: Course
    portal: Connection
    marker: Connection
    database: Connection

    def fence(self, timeout_seconds: float = FENCE_SECONDS) -> None:
        """Wait until the course has been sent whatever the portal had committed.

        What it lost of that is what verifying is for.

        :raises WaitTimeoutError: if it hasn't in time.
        """
        with suppress(ChangesMissingError):
            marks.fence(self.marker, self.database, self.course.course_id, timeout_seconds)


@dataclass
class Compared:
    """What a comparison of a table says.

    :param rows: how many the portal has.
    :param logins: users whose last login differs.
    :param ids: candidates, not yet differences.
    :param extra: those of them that the portal hasn't.
    """

    rows: int
    logins: int = 0
    ids: list[int] = field(default_factory=list)
    extra: set[int] = field(default_factory=set)


@contextmanager
def sides(portal_conninfo: str, course: Course) -> Iterator[Sides]:
    """Connect to both sides of a course whose replication is running.

    :raises ReplicationError: if it isn't.
    :raises DatabaseUnreachableError: if one side can't be reached.
    """
    subject = f"course '{course.course_id}'"
    if not course.ready or not course.fans_out:
        raise ReplicationError(f"{subject} is incomplete", "run 'pysync status' to see why")
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        closing(connect(portal_conninfo)) as marker,
        closing(connect_course(course.conninfo)) as database,
    ):
        require_head(portal)
        identities.require_claimed(portal)
        grants.require_own_roles(portal, database)
        identities.require_ours(database, course.course_id, course.portal_id)
        subscription = subscriptions.find(database, course.replication_name)
        if subscription is None or not subscription.enabled:
            state = "missing" if subscription is None else "disabled"
            raise ReplicationError(
                f"{subject} isn't replicating: its subscription is {state}",
                "run 'pysync status' to see why",
            )
        pin(portal)
        pin(database)
        yield Sides(course, portal, marker, database)


def compare(sides: Sides, table: ReplicatedTable) -> Compared:
    """Compare a table on both sides.

    What is different on both sides may still be on its way. So the portal is read first, then a
    mark has to arrive, then the course is read: a row that was written before the first reading is
    the same, unless it is written again. Those that aren't are looked at again, and again.

    :returns: the rows that differed each time.
    """
    course_id = sides.course.course_id
    shift = _shift(sides.portal, table)
    ours = ranges(sides.portal, table, shift, course_id)
    sides.fence()
    theirs = ranges(sides.database, table, shift, None)
    differing = [n for n in sorted(ours.keys() | theirs.keys()) if ours.get(n) != theirs.get(n)]
    compared = Compared(sum(each.count for each in ours.values()))
    for numbers in _by_weight(differing, ours, theirs):
        _look_into(sides, table, shift, numbers, compared)
    for _ in range(ROUNDS):
        candidates, compared.ids, compared.extra = compared.ids, [], set()
        for ids in batched(candidates, ROWS_AT_ONCE):
            _look_again(sides, table, ids, compared)
    return compared


def _shift(portal: Connection, table: ReplicatedTable) -> int:
    largest = fetch_value(portal, sql.SQL("select max(id) from {}").format(table.identifier)) or 0
    return max(MIN_SHIFT, int(largest).bit_length() - RANGES.bit_length() + 1)


def _by_weight(
    numbers: list[int], ours: dict[int, Range], theirs: dict[int, Range]
) -> Iterator[list[int]]:
    """Put ranges together until they hold enough rows for one fence."""
    batch: list[int] = []
    weight = 0
    for number in numbers:
        batch.append(number)
        weight += sum(side[number].count for side in (ours, theirs) if number in side)
        if weight >= ROWS_LOOKED_INTO:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _look_into(
    sides: Sides, table: ReplicatedTable, shift: int, numbers: list[int], compared: Compared
) -> None:
    """Find the rows that differ in ranges that do."""
    spans = [(number << shift, ((number + 1) << shift) - 1) for number in numbers]
    ours: dict[int, Hashed] = {}
    theirs: dict[int, Hashed] = {}
    for first, last in spans:
        ours |= hashes_between(sides.portal, table, first, last, sides.course.course_id)
    sides.fence()
    for first, last in spans:
        theirs |= hashes_between(sides.database, table, first, last, None)
    for id_ in sorted(ours.keys() | theirs.keys()):
        our, their = ours.get(id_), theirs.get(id_)
        if our is None or their is None or our.hash != their.hash:
            compared.ids.append(id_)
        elif our.login != their.login:
            compared.logins += 1


def _look_again(sides: Sides, table: ReplicatedTable, ids: list[int], compared: Compared) -> None:
    ours = hashes_of(sides.portal, table, ids, sides.course.course_id)
    sides.fence()
    theirs = hashes_of(sides.database, table, ids, None)
    compared.ids += [id_ for id_ in ids if ours.get(id_) != theirs.get(id_)]
    compared.extra |= theirs.keys() - ours.keys()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split items into lists of at most `size`."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
