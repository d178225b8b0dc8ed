"""What courses stream from, be it the portal or a relay: its server, publications, roles."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from psycopg import sql
from psycopg.rows import dict_row

from pysync.db import holders
from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.diagnosis import sessions
from pysync.diagnosis.checks import portal_server
from pysync.diagnosis.drift import publication_findings
from pysync.findings import Finding, alone, run
from pysync.models.replicated import PUBLISHED_TABLES, REPLICATED_TABLES
from pysync.replication.publications import reading_grants
from pysync.replication.publishers import on
from pysync.replication.registry import Course
from pysync.watching.doctor import tls

OPEN_SECONDS: Final = 60
"""How long a transaction may be prepared, or idle, before it is worth a word."""

SPILLED_BYTES: Final = 1 << 30
SPILLED_SHARE: Final = 0.1
"""What decoding for a course writes to disk, and of all it decodes, to be worth a word."""

_QUERIES: Final = load(__file__)


def examine_publisher(
    publisher: Connection,
    relay: Course | None,
    registered: Sequence[Course],
    wanted: Sequence[Course],
) -> Iterator[Finding]:
    """Examine what courses stream from.

    :param relay: as it is registered; ``None`` for the portal.
    :param registered: all courses and relays: settings must do for those that stream from here.
    :param wanted: those whose roles and publications are looked at.
    """
    where, here = on(relay), relay.course_id if relay else None
    there = [each for each in registered if each.relay == here]
    mine = [each for each in wanted if each.relay == here]
    subjects: dict[str, str] = {each.course_id: each.subject for each in mine}
    for course_id, findings in publication_findings(publisher, mine).items():
        for finding in findings:
            yield replace(finding, object=f"{subjects[course_id]} {finding.object}")
    yield from portal_server(publisher, len(there), relay=relay)
    yield from tls.subscriptions(publisher, mine)
    for role in sorted({each.replication_role for each in mine}):
        yield from _replication_role(publisher, relay, role)
    ended = [
        finding
        for way in sorted({each.portal_conninfo for each in mine})
        for of_sessions in (sessions.of_copies, sessions.of_streams)
        for finding in of_sessions(publisher, way, where)
    ]
    yield from dict.fromkeys(ended)
    yield from long_transactions(publisher, where, makes_slots=True)
    yield from spilling(publisher, mine)
    for (table,) in publisher.execute(
        _QUERIES["replica_identities"], {"tables": list(PUBLISHED_TABLES)}
    ).fetchall():
        yield Finding(
            f"replica identity of course.{table}",
            f"isn't its primary key {where}: updates and deletes fail, or tell more than they "
            "should",
            run(f"alter table course.{table} replica identity default", where),
        )


def _replication_role(publisher: Connection, relay: Course | None, name: str) -> Iterator[Finding]:
    where = on(relay)
    subject = f"role '{name}', which courses' servers use,"
    quoted = sql.Identifier(name).as_string(publisher)
    asked = {"name": name, "tables": list(PUBLISHED_TABLES), "of_relay": relay is not None}
    with publisher.cursor(row_factory=dict_row) as cursor:
        role = cursor.execute(_QUERIES["replication_role"], asked).fetchone()
    if role is None:
        create = run(f"create role {quoted} login replication", where)
        yield Finding(subject, f"doesn't exist {where}", create)
        return
    grants = sql.SQL("; ").join(reading_grants(name, relay=relay is not None)).as_string(publisher)
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
            yield Finding(subject, cause, run(remedy, where))


def long_transactions(
    connection: Connection, where: str, *, makes_slots: bool = False
) -> Iterator[Finding]:
    """Name transactions that workers, and slots that are made, may have to wait for."""
    also = ", and so does the slot of a course that is added" if makes_slots else ""
    for each in holders.long_open(connection, OPEN_SECONDS, everywhere=makes_slots):
        yield Finding(
            f"{each}",
            f"is open for long {where}: workers wait for what it has locked{also}",
            each.end(where, connection.info.dbname),
            must=False,
        )


def spilling(
    publisher: Connection,
    wanted: Sequence[Course],
    *,
    least_bytes: int = SPILLED_BYTES,
    least_share: float = SPILLED_SHARE,
) -> Iterator[Finding]:
    """Name courses for which a server writes much of what it decodes to its disk, and reads it.

    :param least_bytes: how much, since its statistics begin.
    :param least_share: how much of what was decoded.
    """
    courses = {each.course_id: each for each in wanted}
    named = {
        "courses": [*courses],
        "names": [each.replication_name for each in wanted],
        "since": [each.ready_at for each in wanted],
    }
    limits = {"least_bytes": least_bytes, "least_share": least_share}
    with publisher.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_QUERIES["spilling"], named | limits).fetchall()
    for each in found:
        course = courses[each["course_id"]]
        role = sql.Identifier(course.replication_role).as_string(publisher)
        raised = f"alter role {role} set logical_decoding_work_mem = '{each['megabytes']}MB'"
        # Streaming is no way out: what is inserted with ON CONFLICT, as copies are, is spilled.
        remedy = run(raised, course.on_publisher) + (
            ", if it has so much memory for each of the role's courses; they get it when they "
            "connect anew"
        )
        yield Finding(
            f"{course.subject} slot",
            f"spilled {each['spilled']} of {each['decoded']} to the disk of {course.publisher} "
            f"since {each['since']:%Y-%m-%d}: {each['transactions']} transactions were larger than "
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
