"""The portal: its server, drift, roles, replica identities, foreign keys."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from psycopg import errors, sql
from psycopg.rows import TupleRow, dict_row

from pysync.db import holders
from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.diagnosis import sessions
from pysync.diagnosis.backups import backup_findings
from pysync.diagnosis.checks import portal_server
from pysync.diagnosis.drift import portal_findings, publication_findings
from pysync.diagnosis.grants import missing
from pysync.findings import ON_PORTAL, Finding, alone, run
from pysync.models.replicated import PUBLISHED_TABLES, REPLICATED_TABLES
from pysync.replication import identities
from pysync.replication.publications import reading_grants
from pysync.replication.registry import Course
from pysync.texts import word
from pysync.watching.doctor import tls

OPEN_SECONDS: Final = 60
"""How long a transaction may be prepared, or idle, before it is worth a word."""

SPILLED_BYTES: Final = 1 << 30
SPILLED_SHARE: Final = 0.1
"""What decoding for a course writes to disk, and of all it decodes, to be worth a word."""

_QUERIES: Final = load(__file__)


def examine_portal(
    portal: Connection, registered: Sequence[Course], wanted: Sequence[Course]
) -> Iterator[Finding]:
    """Examine a portal.

    :param registered: all courses: settings must do for them.
    :param wanted: those whose roles and publications are looked at.
    """
    if unclaimed := identities.unclaimed(portal):
        yield unclaimed
    yield from portal_findings(portal)
    for course_id, findings in publication_findings(portal, wanted).items():
        for finding in findings:
            yield replace(finding, object=f"course '{course_id}' {finding.object}")
    yield from portal_server(portal, len(registered))
    yield from missing(portal, "portal", ON_PORTAL)
    yield from _our_role(portal)
    yield from tls.our_connection(
        portal, "to the portal", f"write sslmode={tls.VERIFIED} into PYSYNC_PORTAL"
    )
    yield from tls.subscriptions(portal, wanted)
    for role in sorted({each.replication_role for each in wanted}):
        yield from _replication_role(portal, role)
    ended = [
        finding
        for way in sorted({each.portal_conninfo for each in wanted})
        for finding in (*sessions.of_copies(portal, way), *sessions.of_streams(portal, way))
    ]
    yield from dict.fromkeys(ended)
    yield from long_transactions(portal, ON_PORTAL)
    yield from _unverified(portal, wanted)
    yield from spilling(portal, wanted)
    for (table,) in portal.execute(
        _QUERIES["replica_identities"], {"tables": list(PUBLISHED_TABLES)}
    ).fetchall():
        yield Finding(
            f"replica identity of course.{table}",
            "isn't its primary key on the portal: updates and deletes fail, or tell more than "
            "they should",
            run(f"alter table course.{table} replica identity default", ON_PORTAL),
        )
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


def _replication_role(portal: Connection, name: str) -> Iterator[Finding]:
    subject = f"role '{name}', which courses' servers use,"
    quoted = sql.Identifier(name).as_string(portal)
    role = _row(portal, "replication_role", name=name, tables=list(PUBLISHED_TABLES))
    if role is None:
        create = run(f"create role {quoted} login replication", ON_PORTAL)
        yield Finding(subject, "doesn't exist on the portal", create)
        return
    grants = sql.SQL("; ").join(reading_grants(name)).as_string(portal)
    for wrong, cause, remedy in (
        (not role["logs_in"], "may not log in", f"alter role {quoted} login"),
        (not role["replicates"], "may not replicate", f"alter role {quoted} replication"),
        (
            role["expired"],
            "has a password that is no longer valid",
            f"alter role {quoted} valid until 'infinity'",
        ),
        (not role["may_read"], "can't read what a first copy reads", grants),
    ):
        if wrong:
            yield Finding(subject, cause, run(remedy, ON_PORTAL))


def long_transactions(connection: Connection, where: str) -> Iterator[Finding]:
    """Name transactions that workers, and slots that are made, may have to wait for."""
    makes_slots = where == ON_PORTAL
    also = ", and so does the slot of a course that is added" if makes_slots else ""
    for each in holders.long_open(connection, OPEN_SECONDS, everywhere=makes_slots):
        yield Finding(
            f"{each}",
            f"is open for long {where}: workers wait for what it has locked{also}",
            each.end(where, connection.info.dbname),
            must=False,
        )


def _unverified(portal: Connection, wanted: Sequence[Course]) -> Iterator[Finding]:
    """Name courses that nobody compares with the portal."""
    asked, found = {"courses": [each.course_id for each in wanted]}, list[TupleRow]()
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


def spilling(
    portal: Connection,
    wanted: Sequence[Course],
    *,
    least_bytes: int = SPILLED_BYTES,
    least_share: float = SPILLED_SHARE,
) -> Iterator[Finding]:
    """Name courses for which the portal writes much of what it decodes to its disk, and reads it.

    :param least_bytes: how much, since its statistics begin.
    :param least_share: how much of what was decoded.
    """
    named = {"courses": [each.course_id for each in wanted]}
    limits = {"least_bytes": least_bytes, "least_share": least_share}
    with portal.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_QUERIES["spilling"], named | limits).fetchall()
    for each in found:
        role = sql.Identifier(each["replication_role"]).as_string(portal)
        raised = f"alter role {role} set logical_decoding_work_mem = '{each['megabytes']}MB'"
        # Streaming is no way out: what is inserted with ON CONFLICT, as copies are, is spilled.
        remedy = run(raised, ON_PORTAL) + (
            ", if it has so much memory for each of the role's courses; they get it when they "
            "connect anew"
        )
        yield Finding(
            f"course '{each['course_id']}' slot",
            f"spilled {each['spilled']} of {each['decoded']} to the portal's disk since "
            f"{each['since']:%Y-%m-%d}: {each['transactions']} transactions were larger than "
            "logical_decoding_work_mem",
            remedy,
            must=False,
        )


def unindexed(connection: Connection, schema: str, where: str) -> Iterator[Finding]:
    """Return foreign keys on replicated tables without an index: deletions read whole tables."""
    values = {"schema": schema, "tables": list(REPLICATED_TABLES)}
    for table, name, target, columns in connection.execute(_QUERIES["unindexed"], values):
        yield Finding(
            f"foreign key '{name}' of {table}",
            f"has no index on ({columns}) {where}: each deletion in {target} reads all of {table}",
            alone(f"create index concurrently on {table} ({columns})", where),
            must=False,
        )
