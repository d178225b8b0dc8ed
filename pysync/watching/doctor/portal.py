"""The portal: drift, our role, courses that nobody compares, foreign keys."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from psycopg import errors, sql
from psycopg.rows import TupleRow, dict_row

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.diagnosis.backups import backup_findings
from pysync.diagnosis.drift import portal_findings, undecided
from pysync.diagnosis.grants import missing
from pysync.findings import ON_PORTAL, Finding, run
from pysync.replication import identities
from pysync.replication.registry import Course
from pysync.texts import word
from pysync.watching.doctor import tls
from pysync.watching.doctor.publisher import examine_publisher, unindexed

_QUERIES: Final = load(__file__)


def examine_portal(
    portal: Connection, registered: Sequence[Course], wanted: Sequence[Course]
) -> Iterator[Finding]:
    """Examine a portal.

    :param registered: all courses and relays: settings must do for them.
    :param wanted: those whose roles and publications are looked at.
    """
    if unclaimed := identities.unclaimed(portal):
        yield unclaimed
    yield from portal_findings(portal)
    yield from undecided(portal)
    yield from missing(portal, "portal", ON_PORTAL)
    yield from _our_role(portal)
    yield from tls.our_connection(
        portal, "to the portal", f"write sslmode={tls.VERIFIED} into PYSYNC_PORTAL"
    )
    yield from examine_publisher(portal, None, registered, wanted)
    yield from _unverified(portal, wanted)
    yield from unindexed(portal, "public", ON_PORTAL)
    yield from backup_findings(portal, ON_PORTAL)


def _row(connection: Connection, query: str, /, **values: Any) -> dict[str, Any] | None:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_QUERIES[query], values).fetchone()


def _our_role(portal: Connection) -> Iterator[Finding]:
    role = _row(portal, "our_role")
    if role is None:
        return
    name = sql.Identifier(role["name"]).as_string(portal)
    for may, cannot, remedy in (
        (
            "may_send",
            "can't send marks: whether a course has everything is judged by WAL positions",
            f"grant execute on function pysync.send_marks(text[]) to {name}",
        ),
        (
            "may_compare",
            "can't tell whether functions, triggers and policies are as they were made",
            f"grant select on pysync.installed to {name}",
        ),
    ):
        if not role[may]:
            subject = f"role '{role['name']}', which pysync uses,"
            yield Finding(subject, cannot, run(remedy, ON_PORTAL), must=False)


def _unverified(portal: Connection, wanted: Sequence[Course]) -> Iterator[Finding]:
    """Name courses that nobody compares with the portal."""
    courses = [each.course_id for each in wanted if not each.is_relay]
    asked, found = {"courses": courses}, list[TupleRow]()
    with suppress(errors.InsufficientPrivilege):  # who may read less is told of the rest
        found = portal.execute(_QUERIES["unverified"], asked).fetchall()
    for course_id, since in found:
        yield Finding(
            f"course '{course_id}'",
            f"hasn't been compared with the portal since {since:%Y-%m-%d}: a difference that no "
            "mark tells stays unseen",
            f"have 'pysync serve' run, which does that in turn, or run 'pysync verify "
            f"{word(course_id)}'",
            must=False,
        )
