"""What isn't as it should be with columns of the portal's own that are carried."""

from collections.abc import Iterator
from typing import Final

from psycopg import errors

from pysync.db.connections import Connection
from pysync.findings import IN_COURSE, ON_PORTAL, Finding
from pysync.migrate import carried
from pysync.migrate.carried import key
from pysync.models.replicated import CarriedColumn
from pysync.replication.registry import Course
from pysync.texts import word

MIGRATE: Final = "run 'pysync migrate'"


def carried_findings(portal: Connection) -> Iterator[Finding]:
    """Return what the portal has that its registry doesn't say, or the other way round."""
    try:
        known = carried.registered(portal)
    except errors.InsufficientPrivilege:
        return
    for table, name in known.removed:
        cause = "is to be carried no longer, and not every database has let it go"
        yield Finding(f"column '{name}' of {table}", cause, MIGRATE)
    keys = list(map(key, known.columns))
    fan_out = carried.columns(portal, "course", keys)
    source = carried.columns(portal, "public", keys)
    for column in known.columns:
        subject = f"column '{column.column_name}' of {column.table_name}"
        found = source.get(key(column))
        if found is None:
            command = f"pysync column remove {column.table_name} {word(column.column_name)}"
            cause = f"is gone {ON_PORTAL}: courses keep the values that they have"
            yield Finding(subject, cause, f"run '{command}', or bring it back {ON_PORTAL}")
        elif key(column) not in fan_out:
            yield Finding(subject, "isn't carried yet", MIGRATE)
        elif (now := carried.as_found(column, found)) != column:
            cause = f"is {_written(now)} {ON_PORTAL}, and {_written(column)} in courses"
            yield Finding(subject, cause, MIGRATE)


def course_findings(database: Connection, course: Course) -> Iterator[Finding]:
    """Return what a course lacks of what it is to be sent."""
    if not course.carried:
        return
    try:
        there = carried.here(database)
    except errors.InsufficientPrivilege:  # who only looks on may not read that
        return
    for column in course.carried:
        if column not in there:
            subject = f"column '{column.column_name}' of {column.table_name}"
            is_other = key(column) in {key(each) for each in there}
            what = "isn't as on the portal" if is_other else "isn't there yet"
            yield Finding(subject, f"{what} {IN_COURSE}", MIGRATE)


def _written(column: CarriedColumn) -> str:
    """Return a column's type as a declaration has it."""
    collate = f" collate {column.collation_name}" if column.collation_name else ""
    return f"{column.type}{collate}{' not null' if column.not_null else ''}"
