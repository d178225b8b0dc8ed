"""Have a database carry the columns of the portal's own that its registry names.

They are no revision's: each portal has others. What is made for them is what a revision would have
made, had it known them: columns, and functions from the same files in ``sql/``, with more in their
places. That is done after revisions, in their transaction, so no database is ever without.

In the fan-out and on relays such a column is text, and may be null; a course's has the portal's
type, collation and nullability.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final, LiteralString

import psycopg
from psycopg import errors, sql

from pysync.db.connections import Connection, fetch_value
from pysync.db.holders import waiting
from pysync.db.pinned import pin
from pysync.db.restricted import Restricted, as_owner_of
from pysync.errors import UnsuitableDatabaseError
from pysync.findings import ON_PORTAL
from pysync.migrate.carried import (
    ENROLLMENTS,
    QUERIES,
    Carried,
    Key,
    Present,
    columns,
    counting,
    here,
    key,
    registered,
)
from pysync.migrate.functions import fallback, functions, no_fallback
from pysync.migrate.installed import record
from pysync.migrate.lineage import PORTAL, Lineage
from pysync.models.replicated import REPLICATED, CarriedColumn
from pysync.replication.fan_out import wait_for_writers
from pysync.texts import word
from pysync.types import Side

_KEEPS: Final = sql.SQL(
    "select not exists (select from {table} as t where pg_catalog.concat(t.{column})"
    " operator(pg_catalog.<>) pg_catalog.concat(t.{column}::{type}))"
)
_ADD_TEXT: Final = "add column {column} text default {default}"


@dataclass(frozen=True)
class _Step:
    """A statement on the way, and in words what it does, if that is worth saying.

    ``table`` is whose owner's rights it runs with: defaults and domains may run code of others.
    ``keeps`` asks whether it leaves values as they are, as text; else it ``fails``.
    """

    statement: sql.SQL | sql.Composed
    table: str | None = None
    what: str = ""
    keeps: sql.Composed | None = None
    fails: UnsuitableDatabaseError | None = None


def bring(
    connection: Connection,
    lineage: Lineage,
    subject: str,
    carried: Carried | None = None,
    *,
    anew: bool = False,
) -> list[str]:
    """Make what is missing for the columns that are carried, and take back what isn't needed.

    Inside the caller's transaction.

    :param carried: what a course database is to have; by default what it has.
    :param anew: make functions again, since something has made them without these columns.
    :returns: what was done, in words.
    :raises UnsuitableDatabaseError: if a column can't be had here.
    """
    steps = list(_steps(connection, lineage, subject, carried, anew=anew))
    for step in steps:
        if step.table is None:
            connection.execute(step.statement)
            continue
        with as_owner_of(connection, "course", step.table) as owner:
            if step.fails and not _is_kept(connection, owner, step):
                raise step.fails
            owner.execute(step.statement)
    return [step.what for step in steps if step.what]


def _is_kept(connection: Connection, owner: Restricted, step: _Step) -> bool:
    pin(connection)
    try:
        with connection.transaction():
            return step.keeps is None or bool(owner.value(step.keeps, "boolean"))
    except (psycopg.DataError, psycopg.IntegrityError, errors.CannotCoerce):
        return False


def let_go(portal: Connection) -> None:
    """Have the portal's functions name no columns any more that the fan-out is going to drop.

    Whoever is in the midst of such a function is waited for: it would look for the column.

    :raises LockedError: if somebody goes on writing for too long; the next run goes on.
    """
    carried = registered(portal)
    if not columns(portal, "course", list(carried.removed)):
        return
    with waiting(portal, "portal", ON_PORTAL):
        with portal.transaction():
            for each in functions(PORTAL, carried, counting(portal)):
                portal.execute(sql.SQL(each))
            for recording in record(PORTAL):
                portal.execute(recording)
        for table in REPLICATED:
            wait_for_writers(portal, table)


def script(
    connection: Connection, lineage: Lineage, subject: str, carried: Carried
) -> tuple[str, list[str]]:
    """Return the SQL that :func:`bring` would run, and what it would do in words."""
    steps = list(_steps(connection, lineage, subject, carried))
    text = "".join(f"{step.statement.as_string(connection)};\n\n" for step in steps)
    return f"begin;\n\n{text}commit;\n" if steps else "", [s.what for s in steps if s.what]


def _steps(
    connection: Connection,
    lineage: Lineage,
    subject: str,
    carried: Carried | None,
    *,
    anew: bool = False,
) -> Iterator[_Step]:
    counts = None
    if lineage.side is Side.PORTAL:
        carried = registered(connection) if carried is None else carried
        counts = counting(connection)
        steps = list(_in_fan_out(connection, carried, counts))
    else:
        has = here(connection)
        carried = Carried(tuple(has)) if carried is None else carried
        steps = list(_in_course(connection, subject, carried, has))
    if steps or (anew and (carried.columns or counts)):
        # First: what they lock nobody else needs.
        yield from map(_Step, map(sql.SQL, functions(lineage, carried, counts)))
        yield from steps
        yield from map(_Step, record(lineage))


def _in_course(
    connection: Connection, subject: str, carried: Carried, has: Mapping[CarriedColumn, bool]
) -> Iterator[_Step]:
    made = {key(column): ours for column, ours in has.items()}
    wanted = {key(column): column for column in carried.columns}
    leaving = [of for of in made if of not in wanted]
    changing = [column for column in wanted.values() if column not in has]
    if not leaving and not changing:
        return
    is_relay = subject.startswith("relay ")
    present = columns(connection, "course", [*wanted, *leaving])
    for column in changing:
        of = key(column)
        if not is_relay:
            require(connection, subject, column, present.get(of), is_ours=of in made)
            yield from _altering(column, present.get(of))
        elif of not in present:
            yield _alter(of, _ADD_TEXT, "added", places={"default": sql.SQL(column.default)})
        row = {**asdict(column), "made": made.get(of, of not in present)}
        places = {name: sql.Literal(value) for name, value in row.items()}
        yield _Step(QUERIES["enter_column"].format(**places))
    for of in leaving:
        if of in present and (is_relay or (made[of] and carried.removed.get(of) == "drop")):
            yield _alter(of, "drop column {column}", "dropped")
        elif of in present:
            # Rows come without it from now on.
            yield _alter(of, "alter column {column} drop not null", "left to the course")
        yield _Step(QUERIES["forget_column"].format(*map(sql.Literal, of)))


def require(
    connection: Connection,
    subject: str,
    column: CarriedColumn,
    present: Present | None,
    *,
    is_ours: bool,
) -> None:
    """Refuse a column that a course can't have.

    :param present: what the course has under its name.
    :param is_ours: whether that is a carried column already.
    :raises UnsuitableDatabaseError: if the course lacks the type, or has a column of its own.
    """
    of, column_type = key(column), column.type
    what = f"{subject} can't have column '{of[1]}' of {of[0]}"
    if not fetch_value(connection, QUERIES["has_type"], column_type):
        raise UnsuitableDatabaseError(
            f"{what}: type {column_type} isn't there",
            "make the type there, with the values that it has on the portal",
        )
    if present is None or is_ours:
        return
    if not column.takes_over:
        take_over = f"pysync column add {word(of[0])} {word(of[1])} --take-over"
        raise UnsuitableDatabaseError(
            f"{what}: it has one of its own",
            f"run '{take_over}' to have the portal's values replace it, or rename it there",
        )
    if present.type != column_type:
        raise UnsuitableDatabaseError(
            f"{what}: it has one of type {present.type}, which is {column_type} on the portal",
            "rename it there, or give it that type",
        )


def _altering(column: CarriedColumn, present: Present | None) -> Iterator[_Step]:
    """Have a course have a column as it is to be."""
    of = key(column)
    collate = f"collate {column.collation_name}" if column.collation_name else ""
    places = {
        "type": sql.SQL(column.type),
        "collate": sql.SQL(collate),
        "default": sql.SQL(column.default),
    }
    if present is None:
        not_null = sql.SQL("not null" if column.not_null else "")
        add = "add column {column} {type} {collate} default {default} {not_null}"
        yield _alter(of, add, "added", places={**places, "not_null": not_null})
        return
    if present.not_null and not column.not_null:
        yield _alter(of, "alter column {column} drop not null")
    if (present.type, present.collation_name) != (column.type, column.collation_name):
        become = "alter column {column} drop default, alter column {column} type {type} {collate} "
        convert = _alter(
            of, become + "using {column}::{type}", f"is {column.type} now", places=places
        )
        yield replace(convert, keeps=_KEEPS.format(**_names(of), **places), fails=_other(column))
    yield _alter(of, "alter column {column} set default {default}", places=places)
    if column.not_null and not present.not_null:
        fill = sql.SQL("update {table} set {column} = {default} where {column} is null")
        yield _Step(fill.format(**_names(of), **places), of[0])
        yield _alter(of, "alter column {column} set not null")


def _other(column: CarriedColumn) -> UnsuitableDatabaseError:
    of = f"{column.table_name} {word(column.column_name)}"
    return UnsuitableDatabaseError(
        f"column '{column.column_name}' of {column.table_name} has values that aren't the same as "
        f"{column.type}, which it is on the portal",
        f"run 'pysync column remove --drop {of}', then 'pysync column add {of}'",
    )


def _in_fan_out(connection: Connection, carried: Carried, counts: str | None) -> Iterator[_Step]:
    wanted = {key(column): column for column in carried.columns}
    present = columns(connection, "course", [*wanted, *carried.removed])
    missing = [column for of, column in wanted.items() if of not in present]
    leaving = [of for of in carried.removed if of in present]
    for column in missing:
        yield from map(_Step, fallback(key(column)))
    for column in missing:
        places = {"default": sql.SQL(column.default)}
        yield _alter(key(column), _ADD_TEXT, "fanned out", places=places, own=True)
    for of, found in present.items():
        if of in wanted and _began(connection, found) != wanted[of].scrub:
            default = {"default": sql.SQL(wanted[of].default)}
            yield _alter(
                of, "alter column {column} set default {default}", places=default, own=True
            )
    for of in leaving:
        yield _alter(of, "drop column {column}", "fanned out no longer", own=True)
        if of != (ENROLLMENTS, counts):
            yield _Step(no_fallback(of))


def _began(connection: Connection, found: Present) -> str | None:
    """Return what a column of the fan-out begins with: functions have that in them, too."""
    default: str | None = None
    if found.default_expression is not None:
        default = fetch_value(connection, sql.SQL("select " + found.default_expression))
    return default


def _alter(
    of: Key,
    action: LiteralString,
    what: str = "",
    *,
    places: Mapping[str, sql.Composable] | None = None,
    own: bool = False,
) -> _Step:
    alter = sql.SQL("alter table {table} " + action).format(**_names(of), **(places or {}))
    told = f"column {of[0]}.{of[1]} {what}" if what else ""
    return _Step(alter, None if own else of[0], told)


def _names(of: Key) -> dict[str, sql.Composable]:
    return {"table": sql.Identifier("course", of[0]), "column": sql.Identifier(of[1])}
