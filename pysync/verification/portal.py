"""The leg on the portal: source tables against the fan-out, and its repair."""

from contextlib import ExitStack

from pysync.db.connections import Connection
from pysync.db.errors import translated
from pysync.replication import fan_out, publications
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
    portal: Connection,
    course_id: CourseId,
    user_ids: list[int],
    *,
    silenced: Course | None = None,
) -> None:
    """Bring fan-out rows of some users back to what the source tables say.

    :param silenced: whom not to send rows that are inserted: the course, or its relay. Its apply
        worker, or that of a course behind it, would stop at rows that are there already. They are
        compared afterwards.
    """
    with translated(f"course '{course_id}'"), portal.transaction(), ExitStack() as stack:
        if silenced is not None:
            # Two courses of a relay may be repaired at once, and have one publication.
            lock = "select from pysync.course where course_id = %s for no key update"
            portal.execute(lock, [silenced.course_id])
            stack.enter_context(publications.silenced(portal, silenced, "update, delete"))
        fan_out.mend(portal, course_id, user_ids)
