"""The portal's registry of courses."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import RowMaker

from pysync.db.connections import LOCK_TIMEOUT_SECONDS, Connection, connect, fetch_value
from pysync.db.holders import waiting
from pysync.db.places import require_one
from pysync.db.queries import load
from pysync.db.transactions import patiently
from pysync.errors import MigrationError, ReplicationError, UnknownCourseError
from pysync.findings import ON_PORTAL
from pysync.models.replicated import REPLICATED, CarriedColumn, ReplicatedTable, carrying
from pysync.replication import identities, turns
from pysync.texts import word
from pysync.types import RELAY_PREFIX, CourseId, subject


@dataclass(frozen=True)
class Course:
    """A row of ``pysync.course``; the connection strings hold no password."""

    course_id: CourseId
    replication_name: str
    conninfo: str
    portal_conninfo: str
    replication_role: str
    fans_out: bool = True
    course_system_identifier: int | None = None
    course_database_oid: int | None = None
    subscription_oid: int | None = None
    ready_at: datetime | None = None
    adopts: bool = False
    sacrificed_at: datetime | None = None
    unfilled: tuple[str, ...] | list[str] = field(default=(), hash=False)  # a list has no hash
    withdrawn: bool = False
    paused_position: int | None = None
    lost_at: datetime | None = None
    server_started_at: datetime | None = None
    missed_changes: int | None = None
    durable: bool = False
    relay: CourseId | None = None
    carries: tuple[str, ...] | list[str] = field(default=(), hash=False)
    catalog_fingerprint: str | None = None
    awaits: tuple[str, ...] | list[str] = field(default=(), hash=False)
    portal_id: UUID | None = None
    version: int | None = None
    carried: tuple[CarriedColumn, ...] = ()

    @property
    def place(self) -> tuple[int | None, int | None]:
        """Return which database it has, as :func:`pysync.replication.identities.place` does."""
        return self.course_system_identifier, self.course_database_oid

    @property
    def is_relay(self) -> bool:
        """Return whether it is a relay: others stream from it, and nobody works in it."""
        return self.course_id.startswith(RELAY_PREFIX)

    @property
    def subject(self) -> str:
        """Return what messages call it."""
        return subject(self.course_id)

    def command(self, verb: str) -> str:
        """Return the command that does something with it, such as ``add``."""
        name = self.course_id.removeprefix(RELAY_PREFIX)
        return f"pysync {'relay' if self.is_relay else 'course'} {verb} {word(name)}"

    @property
    def publisher(self) -> str:
        """Return in words what it streams from."""
        return f"relay '{self.relay.removeprefix(RELAY_PREFIX)}'" if self.relay else "the portal"

    @property
    def on_publisher(self) -> str:
        """Return in words where its publication and its slot are."""
        return f"on {self.publisher}" if self.relay else ON_PORTAL

    @property
    def published(self) -> tuple[ReplicatedTable, ...]:
        """Return every table that it is sent, with the columns of the portal's own."""
        return carrying(self.carried)

    @property
    def replicated(self) -> tuple[ReplicatedTable, ...]:
        """Return those with what the portal's applications write."""
        return self.published[: len(REPLICATED)]

    @property
    def sent(self) -> list[str]:
        """Return the courses whose rows it is sent."""
        return [self.course_id, *self.carries]

    @property
    def ready(self) -> bool:
        """Return whether its database has been complete."""
        return self.ready_at is not None


def _course_row(cursor: Cursor[Any]) -> RowMaker[Course]:
    """Make courses of the columns that are there: migrating reads the registry before it adds any.

    So a field's default must be right for a portal that lacks its column. Nor are the queries
    prepared: a plan that is kept fails once a column is added.
    """
    names = [column.name for column in cursor.description or ()]
    known = {each.name for each in fields(Course)}

    def course(values: Sequence[Any]) -> Course:
        row = {name: value for name, value in zip(names, values, strict=True) if name in known}
        return Course(**row | {"carried": _carried(row.get("carried"))})

    return course


def _carried(rows: list[dict[str, Any]] | None) -> tuple[CarriedColumn, ...]:
    return tuple(CarriedColumn(**row) for row in rows or ())


QUERIES = load(__file__)


def connect_portal(conninfo: str) -> Connection:
    """Connect to a portal database.

    :raises DatabaseUnreachableError: if it can't be reached.
    :raises UnsuitableServerError: if several servers are named, and more than one accepts writes.
    :raises MigrationError: if pysync isn't installed in it.
    """
    connection = connect(conninfo)
    try:
        require_one(connection, conninfo)
        require(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def require(connection: Connection) -> None:
    """Refuse a database without a registry.

    :raises MigrationError: if it isn't a portal.
    """
    if fetch_value(connection, "select pg_catalog.to_regclass('pysync.course')") is None:
        raise MigrationError(
            f"database '{connection.info.dbname}' isn't a portal: it has no registry",
            "run 'pysync migrate portal' first, or point PYSYNC_PORTAL elsewhere",
        )


def courses(portal: Connection) -> list[Course]:
    """Return the registered courses in the order of their ids."""
    return [each for each in subscribers(portal) if not each.is_relay]


def subscribers(portal: Connection) -> list[Course]:
    """Return the registered courses and, after these, the relays, in the order of their ids."""
    with portal.cursor(row_factory=_course_row) as cursor:
        found = cursor.execute(QUERIES["courses"], {"course_id": None}, prepare=False).fetchall()
    return sorted(found, key=lambda each: each.is_relay)


def find(portal: Connection, course: CourseId) -> Course | None:
    """Return a registered course, or ``None``."""
    with portal.cursor(row_factory=_course_row) as cursor:
        return cursor.execute(QUERIES["courses"], {"course_id": course}, prepare=False).fetchone()


def get(portal: Connection, course: CourseId) -> Course:
    """Return a registered course.

    :raises UnknownCourseError: if it isn't registered.
    """
    found = find(portal, course)
    if found is None:
        raise unknown(course)
    return found


def unknown(course: CourseId) -> UnknownCourseError:
    """Return the error for a course that isn't registered."""
    kind = "relay" if course.startswith(RELAY_PREFIX) else "course"
    return UnknownCourseError(
        f"{subject(course)} is not registered",
        f"run 'pysync {kind} list' for those that are",
    )


def get_ready(portal: Connection, course: CourseId) -> Course:
    """Return a registered course whose addition is complete and whose removal hasn't begun.

    :raises UnknownCourseError: if it isn't registered.
    :raises ReplicationError: if it is incomplete.
    """
    found = get(portal, course)
    if not found.fans_out or not found.ready:
        command = "add" if found.fans_out else "remove"
        raise ReplicationError(
            f"{found.subject} is incomplete: 'course {command}' was interrupted",
            f"run 'pysync course {command} {word(course)} …' again to finish that",
        )
    return found


def carried(portal: Connection) -> tuple[CarriedColumn, ...]:
    """Return the columns of the portal's own that courses are sent."""
    return _carried(fetch_value(portal, "select carried from pysync.portal_status"))


def register(portal: Connection, course: Course) -> None:
    """Enter a course, so that triggers copy its members from now on.

    A trigger on the registry waits for enrollments under way. Applications that come meanwhile wait
    behind us, so we wait briefly and let them go between tries.

    :raises LockedError: if no try succeeds; nothing is changed then.
    """

    def enter() -> None:
        with portal.transaction():
            portal.execute(QUERIES["register"], vars(course))
            mark = "insert into course.mark (course_id, number, marked_at) values (%s, 0, now())"
            portal.execute(mark, (course.course_id,))

    with waiting(portal, course.subject, ON_PORTAL):
        patiently(enter)


def reregister(portal: Connection, course: Course) -> None:
    """Update how an entered course and its server are reached."""
    portal.execute(QUERIES["reregister"], vars(course))


def record_subscription(portal: Connection, course: CourseId, subscription_oid: int) -> None:
    """Remember a subscription's oid: its synchronization slots are named after it."""
    statement = "update pysync.course set subscription_oid = %s where course_id = %s"
    portal.execute(statement, (subscription_oid, course))


def record_ready(portal: Connection, course: CourseId) -> None:
    """Remember that the course database is complete and streams."""
    portal.execute(
        "update pysync.course set ready_at = coalesce(ready_at, now()), sacrificed_at = null"
        " where course_id = %s",
        (course,),
    )


def record_merged(portal: Connection, course: CourseId) -> None:
    """Remember that a merge has brought what a course lacked, and that its slot is a new one."""
    with portal.transaction():
        statement = (
            "update pysync.course set paused_position = null, lost_at = null, awaits = '{}'"
            " where course_id = %s"
        )
        portal.execute(statement, (course,))
        # What differed is of no concern any more, nor what a verification finds that is under way.
        portal.execute(QUERIES["forget_verification"], (course,))


def record_pause(portal: Connection, course: CourseId, position: int | None) -> None:
    """Remember what a slot had confirmed when its course was paused; ``None`` once it goes on."""
    statement = "update pysync.course set paused_position = %s where course_id = %s"
    portal.execute(statement, (position, course))


def record_losses(portal: Connection, lost: list[Course]) -> None:
    """Remember that courses lack changes, until a merge has brought them.

    :param lost: as they were when that was seen: who has been worked on since may be whole.
    """
    seen = {"ids": [each.course_id for each in lost], "versions": [each.version for each in lost]}
    portal.execute(QUERIES["record_losses"], seen)


def record_fingerprints(portal: Connection, as_made: Mapping[CourseId, str | None]) -> None:
    """Remember the fingerprints of catalogs in which nothing differs from what was made.

    A course that somebody else is changing is passed over: the next report does it.
    """
    if as_made:
        of_courses = {"courses": [*as_made], "fingerprints": [*as_made.values()]}
        portal.execute(QUERIES["record_fingerprints"], of_courses)


def record_sacrificed(portal: Connection, course: CourseId) -> None:
    """Remember that a course's slot was dropped on purpose, to save the portal's disk."""
    portal.execute("update pysync.course set sacrificed_at = now() where course_id = %s", (course,))


def locked(portal: Connection, course: CourseId) -> AbstractContextManager[None]:
    """Let one process at a time change how a course is replicated.

    :raises LockedError: if another one does.
    :raises UnclaimedError: if the portal is a copy of the one that the course follows.
    """
    identities.require_claimed(portal)
    return turns.taken(portal, course, subject(course), LOCK_TIMEOUT_SECONDS)


def unregister(portal: Connection, course: CourseId) -> None:
    """Delete a course's entry, once its rows in the fan-out are deleted."""
    statement = "delete from pysync.course where course_id = %s"
    with waiting(portal, f"course '{course}'", ON_PORTAL):
        patiently(lambda: portal.execute(statement, (course,)))
