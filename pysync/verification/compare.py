"""The leg between the servers: fan-out against what is sent from it, range by range.

That is the course database and, where the course streams from one, its relay. A mark passes
through the relay: once it is in the course, both have what the portal had.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from psycopg import sql

from pysync.db.connections import Connection, connect, fetch_value
from pysync.db.pinned import pin
from pysync.diagnosis import grants
from pysync.errors import ChangesMissingError, ReplicationError
from pysync.migrate import require_head
from pysync.models.replicated import ReplicatedTable
from pysync.replication import identities, marks, registry, subscriptions
from pysync.replication.databases import connect_course
from pysync.replication.registry import Course
from pysync.verification.rows import (
    Hashed,
    Range,
    Source,
    hashes_between,
    hashes_of,
    ranges,
)
from pysync.verification.types import Place

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
    """Connections to both sides of a course, and to its relay.

    :param marker: to the portal too: a mark is sent while `portal` holds locks.
    :param relay: what it streams from, if not from the portal, and a connection to that.
    """

    course: Course
    portal: Connection
    marker: Connection
    database: Connection
    relay: tuple[Course, Connection] | None = None

    @property
    def fan_out(self) -> Source:
        """Return what is right."""
        return Source(Place.PORTAL, self.portal, self.course.course_id)

    @property
    def copies(self) -> tuple[Source, ...]:
        """Return what must be equal to it, in the order in which changes arrive."""
        course = Source(Place.COURSE, self.database)
        if self.relay is None:
            return (course,)
        return Source(Place.RELAY, self.relay[1], self.course.course_id), course

    @property
    def sent(self) -> Course:
        """Return whom the portal sends the course's rows: it, or its relay."""
        return self.course if self.relay is None else self.relay[0]

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
    :param extra: those of them that the portal hasn't, wherever they are.
    """

    rows: int
    logins: int = 0
    ids: list[int] = field(default_factory=list)
    extra: set[int] = field(default_factory=set)


@contextmanager
def sides(portal_conninfo: str, course: Course) -> Iterator[Sides]:
    """Connect to both sides of a course whose replication is running, and to its relay.

    :raises ReplicationError: if it isn't.
    :raises DatabaseUnreachableError: if one side can't be reached.
    """
    if not course.ready or not course.fans_out:
        raise ReplicationError(f"{course.subject} is incomplete", "run 'pysync status' to see why")
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        closing(connect(portal_conninfo)) as marker,
        ExitStack() as stack,
    ):
        require_head(portal)
        identities.require_claimed(portal)
        relay = None
        if course.relay is not None:
            found = registry.get_ready(portal, course.relay)
            relay = (found, stack.enter_context(_replicating(portal, found)))
        database = stack.enter_context(_replicating(portal, course))
        pin(portal)
        yield Sides(course, portal, marker, database, relay)


@contextmanager
def _replicating(portal: Connection, course: Course) -> Iterator[Connection]:
    """Connect to the database of a course, or of a relay, whose subscription is enabled."""
    with closing(connect_course(course.conninfo)) as database:
        grants.require_own_roles(portal, database)
        identities.require_ours(database, course.course_id, course.portal_id)
        subscription = subscriptions.find(database, course.replication_name)
        if subscription is None or not subscription.enabled:
            state = "missing" if subscription is None else "disabled"
            raise ReplicationError(
                f"{course.subject} isn't replicating: its subscription is {state}",
                "run 'pysync status' to see why",
            )
        pin(database)
        yield database


def compare(sides: Sides, table: ReplicatedTable) -> Compared:
    """Compare a table on both sides, and on the relay.

    What is different on both sides may still be on its way. So the portal is read first, then a
    mark has to arrive, then the course is read: a row that was written before the first reading is
    the same, unless it is written again. Those that aren't are looked at again, and again.

    :returns: the rows that differed each time.
    """
    shift = _shift(sides.portal, table)
    ours = ranges(sides.fan_out, table, shift)
    sides.fence()
    copies = [ranges(copy, table, shift) for copy in sides.copies]
    numbers = sorted(ours.keys() | {number for theirs in copies for number in theirs})
    differing = [n for n in numbers if any(ours.get(n) != theirs.get(n) for theirs in copies)]
    compared = Compared(sum(each.count for each in ours.values()))
    for batch in _by_weight(differing, ours, *copies):
        _look_into(sides, table, shift, batch, compared)
    for _ in range(ROUNDS):
        candidates, compared.ids, compared.extra = compared.ids, [], set()
        for ids in batched(candidates, ROWS_AT_ONCE):
            _look_again(sides, table, ids, compared)
    return compared


def _shift(portal: Connection, table: ReplicatedTable) -> int:
    largest = fetch_value(portal, sql.SQL("select max(id) from {}").format(table.identifier)) or 0
    return max(MIN_SHIFT, int(largest).bit_length() - RANGES.bit_length() + 1)


def _by_weight(numbers: list[int], *sides: dict[int, Range]) -> Iterator[list[int]]:
    """Put ranges together until they hold enough rows for one fence."""
    batch: list[int] = []
    weight = 0
    for number in numbers:
        batch.append(number)
        weight += sum(side[number].count for side in sides if number in side)
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

    def rows(source: Source) -> dict[int, Hashed]:
        found: dict[int, Hashed] = {}
        for first, last in spans:
            found |= hashes_between(source, table, first, last)
        return found

    ours = rows(sides.fan_out)
    sides.fence()
    copies = [(copy.place, rows(copy)) for copy in sides.copies]
    for id_ in sorted(ours.keys() | {id_ for _, theirs in copies for id_ in theirs}):
        our = ours.get(id_)
        if not all(_same(place, our, theirs.get(id_)) for place, theirs in copies):
            compared.ids.append(id_)
        elif our != copies[-1][1].get(id_):
            compared.logins += 1


def _same(place: Place, our: Hashed | None, their: Hashed | None) -> bool:
    """Return whether a row is as it must be; a course's own logins may be others."""
    if place is Place.COURSE and our is not None and their is not None:
        return our.hash == their.hash
    return our == their


def _look_again(sides: Sides, table: ReplicatedTable, ids: list[int], compared: Compared) -> None:
    ours = hashes_of(sides.fan_out, table, ids)
    sides.fence()
    copies = [(copy.place, hashes_of(copy, table, ids)) for copy in sides.copies]
    for id_ in ids:
        if not all(_same(place, ours.get(id_), theirs.get(id_)) for place, theirs in copies):
            compared.ids.append(id_)
    compared.extra |= {id_ for _, theirs in copies for id_ in theirs} - ours.keys()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split items into lists of at most `size`."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
