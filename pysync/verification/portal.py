"""The leg on the portal: source tables against the fan-out, and its repair."""

from psycopg import sql

from pysync.db.connections import Connection
from pysync.db.errors import translated
from pysync.replication import fan_out
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.verification.rows import QUERIES
from pysync.verification.types import Difference, Kind, Place, Values


def differences(
    portal: Connection, course_id: CourseId, *, with_values: bool = False
) -> list[Difference]:
    """Return where a course's fan-out isn't what the source tables say."""
    columns = (
        "table_name text, id bigint, kind text, columns text[], user_ids bigint[], expected jsonb,"
        " found jsonb"
    )
    with translated("portal"), fan_out.as_triggers(portal) as triggers:
        rows = triggers.fetch(QUERIES["fan_out_differences"], columns, {"course_id": course_id})
        return [
            Difference(
                Place.PORTAL,
                table,
                id_,
                Kind(kind),
                tuple(columns),
                tuple(user_ids),
                _values(expected, found, columns) if with_values else None,
            )
            for table, id_, kind, columns, user_ids, expected, found in rows
        ]


def _values(
    expected: dict[str, object] | None, found: dict[str, object] | None, columns: list[str]
) -> Values:
    def text(row: dict[str, object] | None, name: str) -> str | None:
        value = row.get(name) if row else None
        if isinstance(value, bool):
            return str(value).lower()
        return None if value is None else str(value)

    names = columns or list(expected or found or {})
    return {name: (text(expected, name), text(found, name)) for name in names}


def mend(
    portal: Connection, course: Course, user_ids: list[int], *, silently: bool = False
) -> None:
    """Bring fan-out rows of some users back to what the source tables say.

    :param silently: don't replicate rows that are inserted: the course holds them already, and its
        apply worker would stop at them. They are compared with the course's afterwards.
    """

    def publish(operations: str) -> None:
        # Decoding sees the catalogs as they were at each change, also within a transaction, and
        # nothing of it is there for others before it commits: nobody else's inserts are left out.
        if silently:
            alter = sql.SQL("alter publication {} set (publish = {})")
            name = sql.Identifier(course.replication_name)
            portal.execute(alter.format(name, sql.Literal(operations)))

    with translated(f"course '{course.course_id}'"), portal.transaction():
        publish("update, delete")
        fan_out.mend(portal, course.course_id, user_ids)
        publish("insert, update, delete")
