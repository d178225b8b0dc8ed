"""What an error of a tried change means, and what mends it; told by SQLSTATE."""

from typing import Final

import psycopg
from psycopg import errors, sql

from pysync.db.connections import Connection, fetch_row, fetch_value
from pysync.db.errors import said
from pysync.db.queries import load
from pysync.diagnosis.trial.pgoutput import Change
from pysync.findings import IN_COURSE, Finding, run
from pysync.replication.registry import Course
from pysync.texts import Text, word

_QUERIES: Final = load(__file__)
TOO_NARROW: Final = f"make the column wide enough {IN_COURSE}: see 'pysync doctor'"
_GOES_ON: Final = "; the first copy then goes on by itself"


def explain(
    database: Connection,
    course: Course,
    change: Change,
    error: psycopg.Error,
    role: str | None,
    *,
    copying: bool,
) -> Finding:
    """Return what a change failed with, exactly, and the command that mends it.

    :param role: as which it was tried.
    :param copying: whether it is a row of a first copy.
    """
    # The detail of other errors may be the whole failing row: nobody needs to see that.
    collides = isinstance(error, errors.UniqueViolation | errors.ExclusionViolation)
    exact = said(error, detailed=collides, hinted=True)
    where = f"on {change.schema}.{change.table} fails {IN_COURSE}"
    cause = f"{where} with {error.sqlstate}: {exact}"
    what = "the first copy's insert" if copying else f"the pending {change.kind}"
    if isinstance(error, errors.InsufficientPrivilege) and role is not None:
        return Finding(what, cause, _grant(database, change, role))
    return Finding(what, cause, _remedy(database, course, change, error, copying=copying))


def _grant(database: Connection, change: Change, role: str) -> str:
    """Return what gives a worker the rights that it lacks."""
    table = sql.Identifier(change.schema, change.table)
    names = {"table": f"{change.schema}.{change.table}", "role": role}
    lacks, unsecure = fetch_row(database, _QUERIES["lacks"], **names)
    if lacks:
        grant = sql.SQL("grant {} on {} to {}").format(sql.SQL(lacks), table, sql.Identifier(role))
        return run(grant.as_string(database), IN_COURSE)
    if unsecure:
        action = sql.SQL(unsecure)
        return _run(database, "alter table {} {} row level security", table, action)
    return (
        f"give role '{role}', as which changes are applied, that right {IN_COURSE}, or have the "
        "trigger that needs it fire for local changes only"
    )


def _remedy(
    database: Connection, course: Course, change: Change, error: psycopg.Error, *, copying: bool
) -> str:
    table = sql.Identifier(change.schema, change.table)
    constraint = error.diag.constraint_name or ""
    resync = f"'pysync resync {word(course.course_id)}'"
    match error:
        case errors.UniqueViolation():
            if statement := _delete_local(database, change, constraint):
                as_replica = "set local session_replication_role = replica"
                removal = run(f"begin; {as_replica}; {statement}; commit", IN_COURSE)
                instead = Text(f", or run {resync}" if course.ready else "")
                return removal + " (it removes the local row)" + instead
            return _run(database, "drop index {}", sql.Identifier("course", constraint))
        case errors.NotNullViolation():
            column = sql.Identifier(error.diag.column_name or "")
            return _run(database, "alter table {} alter column {} drop not null", table, column)
        case errors.CheckViolation() | errors.ExclusionViolation():
            rule = sql.Identifier(constraint)
            return _run(database, "alter table {} drop constraint {}", table, rule)
        case errors.UndefinedColumn():
            repair = f", then 'pysync repair {word(course.course_id)}'"
            return _missing_columns(database, change) + (_GOES_ON if copying else repair)
        case errors.UndefinedTable() | errors.InvalidSchemaName():
            return f"restore it {IN_COURSE}" + (_GOES_ON if copying else f", then {resync}")
        case _ if error.sqlstate and error.sqlstate.startswith("22"):
            return TOO_NARROW
    return f"mend what raises it (a trigger that is enabled ALWAYS or REPLICA?) {IN_COURSE}"


def _delete_local(database: Connection, change: Change, index: str) -> str | None:
    """Return the statement that removes the local row which collides with a replicated one."""
    table = f"{change.schema}.{change.table}"
    columns = fetch_value(database, _QUERIES["index_columns"], index=index, table=table)
    if not columns or not {*columns} <= {*change.values}:
        return None
    matches = sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(change.values[name]))
        for name in columns
    )
    statement = sql.SQL("delete from {} where {}").format(
        sql.Identifier(change.schema, change.table), matches
    )
    return statement.as_string(database)


def _missing_columns(database: Connection, change: Change) -> str:
    table = f"{change.schema}.{change.table}"
    found = fetch_value(database, _QUERIES["column_names"], table=table)
    missing = ", ".join(sorted({*change.values} - {*found}))
    return f"add column {missing} to {table} {IN_COURSE} again"


def _run(database: Connection, statement: str, *parts: sql.Composable) -> str:
    return run(sql.SQL(statement).format(*parts).as_string(database), IN_COURSE)
