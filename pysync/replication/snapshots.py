"""What the portal holds for a course at one moment, and the place in its stream that follows."""

import secrets
import threading
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final, LiteralString

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from pysync.db.connections import (
    CONNECT_TIMEOUT_SECONDS,
    Connection,
    connect,
    fetch_row,
    fetch_value,
    resolve,
)
from pysync.db.errors import meaning, translated, unconnected
from pysync.db.hosts import preferred
from pysync.db.queries import load
from pysync.errors import PysyncError
from pysync.models.replicated import Membership, ReplicatedColumn, ReplicatedTable
from pysync.replication import slots
from pysync.replication.fan_out import as_triggers
from pysync.replication.publications import rows_of
from pysync.replication.publishers import Publisher
from pysync.replication.registry import Course
from pysync.replication.slots import SLOT_TIMEOUT_SECONDS, delayed

TEMPORARY_PREFIX: Final = "pysync_merge_"
"""How temporary slots' names begin; they end with the connection that made them."""

QUERIES = load(__file__)


@dataclass(frozen=True)
class Point:
    """A moment of the portal: whoever reads `reader` sees what was committed before `lsn`.

    ``slot`` is a temporary slot at that position.
    """

    slot: str
    lsn: str
    reader: Connection


def fan_out(course: Course) -> dict[ReplicatedTable, sql.Composed]:
    """Return queries for what a registered course, or relay, must hold, by table."""
    return {
        table: sql.SQL("select {} from {} where {}").format(
            sql.SQL(", ").join(map(sql.Identifier, table.columns)),
            table.identifier,
            rows_of(course),
        )
        for table in course.published
    }


def any_rows(reader: Connection, course: Course) -> bool:
    """Return whether a course must hold anything of the portal's applications."""
    queries = fan_out(course)
    exist = (sql.SQL("exists ({})").format(queries[table]) for table in course.replicated)
    return bool(fetch_value(reader, sql.SQL("select {}").format(sql.SQL(" or ").join(exist))))


def marks(reader: Connection, course: Course) -> str:
    """Return the marks that a course must have, as JSON."""
    query = "select coalesce(jsonb_agg(to_jsonb(sent)), '[]')::text from ({}) as sent"
    *_, marks = fan_out(course).values()
    return str(fetch_value(reader, sql.SQL(query).format(marks)))


def count(portal: Connection, query: sql.Composed) -> int:
    """Return how many rows one of these queries has."""
    counting = sql.SQL("select count(*) from ({}) as counted").format(query)
    return int(fetch_value(portal, counting))


def members(course: Course, reader: Connection) -> dict[ReplicatedTable, sql.Composed]:
    """Read what a course would hold if it were registered now.

    :param reader: in a transaction; it keeps what was read in temporary tables.
    :returns: queries for these, by table.
    """
    joined = (
        " from public.{table} as source join course.members({course}) as member"
        " on member.user_id = source.{user}"
    )
    own = (
        " from public.{table} as source join course.members({course}) as member"
        " on member.enrollment_id = source.id"
    )
    found = {}
    with as_triggers(reader) as triggers:
        for table in course.replicated:
            kept = f"pysync_read_{table.name}"
            places = {
                "kept": sql.Identifier("pg_temp", kept),
                "names": sql.SQL(", ").join(map(sql.Identifier, table.columns)),
                "fan_out": table.identifier,
                "table": sql.Identifier(table.name),
                "user": sql.Identifier(table.user_column),
                "course": sql.Literal(str(course.course_id)),
            }
            columns = sql.SQL(", ").join(
                places["course"] if each.name == "course_id" else _read(each)
                for each in table.described
            )
            make = "create temporary table {kept} as select {names} from {fan_out} limit 0"
            reader.execute(sql.SQL(make).format(**places))
            triggers.lend(kept)
            source = own if table.membership is Membership.ENROLLMENT else joined
            read = "insert into {kept} ({names}) select {columns}"
            triggers.execute(sql.SQL(read + source).format(columns=columns, **places))
            found[table] = sql.SQL("select {names} from {kept}").format(**places)
    return found


def _read(column: ReplicatedColumn) -> sql.Composed:
    """Return what the fan-out would have of a column of the portal's own tables."""
    read = "course.as_text({}, null)" if column.carried else "{}"
    return sql.SQL(read).format(sql.Identifier("source", column.name))


@contextmanager
def consistent_point(publisher: Publisher) -> Iterator[Point]:
    """Make a temporary slot and read what was committed before its position.

    Slot and snapshot are gone after the block, and also if we are killed.

    :raises ReplicationError: if older transactions on the portal's server don't end in time.
    """
    name = f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}"
    with (
        closing(_replication_connection(publisher.conninfo)) as replication,
        closing(connect(publisher.conninfo)) as reader,
    ):
        lsn, snapshot = _create_slot(publisher, replication, name, "TEMPORARY", "SNAPSHOT 'export'")
        with translated("portal"):
            reader.execute("begin isolation level repeatable read read only")
            reader.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
        yield Point(name, lsn, reader)


@contextmanager
def new_slot(publisher: Publisher, name: str) -> Iterator[Connection]:
    """Make a slot, and read in the block what was committed before its position.

    It is one that fails over, where the server has such.

    :raises ReplicationError: if older transactions on the publisher's server don't end in time; no
        slot is left behind.
    """
    fails_over = fetch_value(publisher.connection, QUERIES["slots_fail_over"])
    with closing(_replication_connection(publisher.conninfo)) as replication:
        replication.execute("begin isolation level repeatable read read only")
        options = "SNAPSHOT 'use', FAILOVER" if fails_over else "SNAPSHOT 'use'"
        _create_slot(publisher, replication, name, "", options)
        with translated(publisher.name):
            yield replication


def keep_slot(
    publisher: Publisher,
    source: str,
    name: str,
    *,
    like: str | None = None,
    wanted: Collection[str] = (),
) -> None:
    """Make a permanent slot at the position of another, in place of one of that name.

    :param like: a slot on which may be set what is to be set on this one, too, as on `source`.
    :param wanted: what is to be set on it besides, where the server can: ``failover``,
        ``two_phase``.
    """
    portal = publisher.connection
    slots.drop_one(portal, name)
    copy = "select pg_catalog.pg_copy_logical_replication_slot(%s, %s, false)"
    asked = {"slots": [source, like], "wanted": list(wanted)}
    with translated(f"slot '{name}'"):
        portal.execute(copy, (source, name))
        options: dict[str, bool] = dict(
            portal.execute(QUERIES["options_of_slot"], asked).fetchall()
        )
        if options == {"two_phase": False}:  # 17 has it or failover
            portal.execute(QUERIES["set_two_phase"], {"slot": name})
        elif altered := [option for option, can in options.items() if can]:
            set_on_slot(publisher.conninfo, name, altered)


def set_on_slot(portal_conninfo: str, name: str, options: Collection[str]) -> None:
    """Set on a slot that nobody uses what no function sets on one that is there."""
    alter = sql.SQL("ALTER_REPLICATION_SLOT {} ({})").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.SQL, options))
    )
    with closing(_replication_connection(portal_conninfo)) as replication:
        replication.execute(alter)


def begin(reader: Connection) -> None:
    """Begin to read the portal as it is now."""
    reader.execute("begin isolation level repeatable read")
    reader.execute("select 1")


def _replication_connection(conninfo: str) -> Connection:
    parameters = preferred(resolve(conninfo))
    parameters.setdefault("connect_timeout", CONNECT_TIMEOUT_SECONDS)
    parameters |= {"application_name": "pysync", "replication": "database"}
    try:
        connection = psycopg.connect(make_conninfo("", **parameters), autocommit=True)
        # Whatever its role has set: it may wait for long.
        connection.execute("set statement_timeout = 0; set search_path = pg_catalog, pg_temp")
        connection.execute(QUERIES["take_time"])
    except psycopg.Error as error:
        raise PysyncError(
            f"portal refuses a replication connection: {unconnected(error)}",
            "connect as a superuser, or as a role with REPLICATION, and see that max_wal_senders "
            "leaves room",
        ) from None
    return connection


def _create_slot(
    publisher: Publisher,
    replication: Connection,
    name: str,
    kind: LiteralString,
    options: LiteralString,
) -> tuple[str, str]:
    """Return position and snapshot of a new slot; older transactions are waited for."""
    create = sql.SQL("CREATE_REPLICATION_SLOT {} " + kind + " LOGICAL pgoutput (" + options + ")")
    # statement_timeout doesn't count for replication commands.
    timer = threading.Timer(SLOT_TIMEOUT_SECONDS, replication.cancel)
    timer.start()
    try:
        _, lsn, snapshot, _ = fetch_row(replication, create.format(sql.Identifier(name)))
    except errors.QueryCanceled:
        raise delayed(publisher.connection, name) from None
    except psycopg.Error as error:
        raise meaning(error, f"slot '{name}'") from error
    finally:
        timer.cancel()
    return lsn, snapshot
