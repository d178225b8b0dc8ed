"""Whose databases these are: a copy, of a portal or of a course, must not act on the original.

A portal has an id, which it keeps for life, and says which database it was when it was claimed. A
course's database says which portal has it, and which database it is. What is restored from a dump,
made from a template or upgraded into a new cluster finds itself elsewhere; a standby that is
promoted doesn't. A cloned disk looks the same from within: see
:func:`pysync.replication.databases.open_course`.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg.rows import class_row

from pysync.db.connections import Connection, fetch_row, fetch_value
from pysync.db.queries import load
from pysync.errors import ForeignDatabaseError, UnclaimedError
from pysync.findings import Finding
from pysync.texts import Text, word
from pysync.types import CourseId

QUERIES: Final = load(__file__)

COPIED: Final = "is a copy of the one that was added, or was moved"


def unclaimed(portal: Connection) -> Finding | None:
    """Return what is wrong with a portal that is a copy or was moved, ``None`` if it is claimed.

    A role that may not see it isn't told.
    """
    if not fetch_value(portal, QUERIES["may_see_claim"]):
        return None
    claimed, at = fetch_row(portal, "select claimed, claimed_at from pysync.portal_status")
    if claimed:
        return None
    return Finding(
        f"portal '{portal.info.dbname}'",
        f"is a copy, or was moved: another database was claimed as the portal at "
        f"{at:%Y-%m-%d %H:%M}, and courses may still follow that one",
        "'pysync portal claim' says what it would mean to go on with this one, and does it",
    )


def require_claimed(portal: Connection) -> None:
    """Refuse to act on courses or slots as a portal that is a copy or was moved.

    :raises UnclaimedError: if it is one.
    """
    if finding := unclaimed(portal):
        raise UnclaimedError(str(finding), finding.remedy)


def claim(portal: Connection, *, as_copy: bool) -> None:
    """Have this database be the portal from now on.

    :param as_copy: the original lives on: this one gets an id of its own, and the courses that are
        registered here, which follow the original, refuse it.
    """
    portal.execute(QUERIES["claim_portal"], {"as_copy": as_copy})


def to_take_over(course_id: CourseId) -> Text:
    """Return the remedy for a course's database that is a copy, or was moved."""
    return Text(
        f"run 'pysync course move {word(course_id)} CONNINFO' if the course is to go on in it"
    )


def require_ours(
    database: Connection, course_id: CourseId, portal_id: UUID | None, *, copies: bool = False
) -> None:
    """Refuse a course's database that another portal has, or that is a copy of one.

    :param copies: let copies pass: they are only looked at.
    :raises ForeignDatabaseError: if it is one.
    """
    found = _this_course(database)
    if found is None or found.portal_id is None:
        return
    if not found.is_original and not copies:
        raise ForeignDatabaseError(
            f"database '{database.info.dbname}' {COPIED}", to_take_over(course_id)
        )
    require_portals(database, found.portal_id, portal_id)


def require_portals(database: Connection, found: UUID | None, portal_id: UUID | None) -> None:
    """Refuse a course's database that says it is another portal's.

    :param found: whose it says it is.
    :raises ForeignDatabaseError: if it does.
    """
    if found not in (None, portal_id):
        raise ForeignDatabaseError(
            f"database '{database.info.dbname}' belongs to another portal, not to the one that "
            "PYSYNC_PORTAL names",
            "work from that portal, or run 'pysync course remove' there first",
        )


def place(database: Connection) -> tuple[int, int]:
    """Return what tells a database from all others, however it is reached: its server, and its oid.

    Both stay when it is renamed, or its standby promoted.
    """
    system_identifier, oid = fetch_row(database, QUERIES["place"])
    return system_identifier, oid


def owner_of(database: Connection) -> str | None:
    """Return the course that a database belongs to, or ``None`` if it is no course database."""
    found = _this_course(database)
    return None if found is None else found.course_id


def is_copy(database: Connection) -> bool:
    """Return whether a course's database is a copy of the one that its portal has."""
    found = _this_course(database)
    return found is not None and not found.is_original


def require_free(portal: Connection, database: Connection) -> None:
    """Refuse to give a course a database that another portal has; a copy of one may be taken.

    :raises ForeignDatabaseError: if another portal has it.
    """
    found = _this_course(database)
    if found is None or found.portal_id is None or not found.is_original:
        return
    if found.portal_id != _portal_id(portal):
        raise ForeignDatabaseError(
            f"database '{database.info.dbname}' is course '{found.course_id}''s of another portal",
            "give the course a database of its own, or run 'pysync course remove' there first",
        )


def take(portal: Connection, database: Connection) -> None:
    """Write into a course's database that this portal has it."""
    database.execute(QUERIES["take_course"], {"portal_id": _portal_id(portal)})


def let_go(database: Connection) -> None:
    """Write into a course's database that no portal has it."""
    database.execute(
        "update course.this_course"
        " set portal_id = null, system_identifier = null, database_oid = null"
    )


def _portal_id(portal: Connection) -> UUID:
    found: UUID = fetch_value(portal, "select portal_id from pysync.this_portal")
    return found


@dataclass(frozen=True)
class _ThisCourse:
    course_id: str
    portal_id: UUID | None
    is_original: bool


def _this_course(database: Connection) -> _ThisCourse | None:
    if fetch_value(database, "select pg_catalog.to_regclass('course.this_course')") is None:
        return None
    with database.cursor(row_factory=class_row(_ThisCourse)) as cursor:
        return cursor.execute(QUERIES["this_course"]).fetchone()
