"""Which column of the portal's own somebody asks for, and whether it can be carried."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Final

import psycopg
from psycopg import sql

from pysync.db.connections import Connection, fetch_value
from pysync.db.errors import detail
from pysync.db.pinned import pin
from pysync.db.restricted import as_owner_of
from pysync.errors import PysyncError
from pysync.migrate import carried
from pysync.migrate.carried import QUERIES, Key, key
from pysync.migrate.revisions import require_head
from pysync.models.replicated import CarriedColumn, replicated
from pysync.replication import identities
from pysync.texts import quoted

NAME: Final = re.compile(r"[^\W\d]\w*")
_OF_A_DATABASE: Final = re.compile(r"reg[a-z]+(\[\])?|x?[ct]id(\[\])?|aclitem(\[\])?|pg_\w+")
"""Types whose values mean something in one database, or on one server, only."""


Scrub = Callable[[Connection, str, str], str | None]
"""Returns, as text, what a column is for whom the portal doesn't say: asked with table and type."""


def asked(
    table: str, names: Sequence[str], portal: Connection, *, scrub: Scrub | None, takes_over: bool
) -> list[CarriedColumn]:
    """Return columns of the portal's own as they are to be carried.

    :param table: a replicated table.
    :param scrub: by default what it was, null, or the default of a column that may not be null.
    :param takes_over: let courses have had a column of that name and type before.
    :raises PysyncError: if one isn't there, or can't be carried.
    """
    require_head(portal)
    identities.require_claimed(portal)
    pin(portal)
    known = {key(each): each for each in carried.registered(portal).columns}
    return [
        _asked(portal, (table, name), known.get((table, name)), scrub, takes_over=takes_over)
        for name in dict.fromkeys(names)
    ]


def _asked(
    portal: Connection,
    of: Key,
    known: CarriedColumn | None,
    scrub: Scrub | None,
    *,
    takes_over: bool,
) -> CarriedColumn:
    table, name = of
    what = f"column '{name}' of {table}"
    if name in replicated(table).columns:
        raise PysyncError(f"{what} is carried always", "name one that the portal has beside those")
    if not NAME.fullmatch(name):
        raise PysyncError(
            f"{what} can't be carried: its name has other characters than letters, digits and '_'",
            "rename it",
        )
    found = carried.columns(portal, "public", [of]).get(of)
    if found is None:
        others = [each for each in own_columns(portal, table) if NAME.fullmatch(each)]
        raise PysyncError(
            f"{what} isn't there on the portal",
            f"name one of: {', '.join(others)}" if others else "add it there first",
        )
    if known is None and carried.columns(portal, "course", [of]):
        raise PysyncError(
            f"{what} can't be carried: the fan-out has one of that name for its own use",
            "rename it on the portal",
        )
    if fetch_value(portal, QUERIES["is_virtual"], table, name):
        raise PysyncError(
            f"{what} can't be carried: it is generated when it is read, so triggers don't see it",
            "have it be stored, or generate it in courses as well",
        )
    if _OF_A_DATABASE.fullmatch(found.type):
        raise PysyncError(
            f"{what} can't be carried: values of type {found.type} mean something in the portal's "
            "database only",
            "carry a column of another type, such as text",
        )
    if scrub is not None:
        text = scrub(portal, table, found.type)
    elif known is not None:
        text = known.scrub
    else:
        text = _default(portal, table, name) if found.not_null else None
    if text is None and found.not_null:
        raise PysyncError(
            f"{what} can't be carried: it may not be null, and nothing says what it is for users "
            "who left before, or are erased",
            "say it: --scrub VALUE",
        )
    may = takes_over or bool(known and known.takes_over)
    return CarriedColumn(*of, found.type, found.collation_name, found.not_null, text, may)


def refresh(portal: Connection) -> None:
    """Note what applications have made of carried columns on the portal since."""
    known = carried.registered(portal).columns
    found = carried.columns(portal, "public", list(map(key, known)))
    for column in known:
        # Of one that is gone a report says so.
        now = carried.as_found(column, found.get(key(column)))
        if now == column:
            continue
        is_other = (now.type, now.collation_name) != (column.type, column.collation_name)
        if is_other and now.scrub is not None:
            scrub = _still(portal, now)
            now = carried.as_found(replace(column, scrub=scrub), found.get(key(column)))
        with portal.transaction():
            portal.execute(QUERIES["register_column"], asdict(now))
            if is_other:
                # No trigger saw what the statement has made of its values.
                portal.execute(QUERIES["unfill"], {"column": ".".join(key(column))})


def _still(portal: Connection, column: CarriedColumn) -> str | None:
    """Return what a column of another type now is for whom the portal doesn't say."""
    try:
        return canonical(portal, column.table_name, str(column.scrub), column.type)
    except PysyncError:
        return _default(portal, *key(column)) if column.not_null else None


def canonical(portal: Connection, table: str, value: str, type_: str) -> str:
    """Return a value as a type's own output has it.

    :raises PysyncError: if it isn't a value of that type.
    """
    query = sql.SQL("select pg_catalog.concat({}::{})").format(sql.Literal(value), sql.SQL(type_))
    try:
        with as_owner_of(portal, "public", table) as owner:
            return str(owner.value(query, "text"))
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise PysyncError(
            f"{quoted(value)} isn't a value of type {type_}: {detail(error)}",
            "give one that is: --scrub VALUE",
        ) from None


def _default(portal: Connection, table: str, name: str) -> str | None:
    """Return what a column's rows begin with on the portal, as text, with its owner's rights."""
    expression = fetch_value(portal, QUERIES["default_of"], table, name)
    if expression is None:
        return None
    with as_owner_of(portal, "public", table) as owner:
        query = sql.SQL("select pg_catalog.concat({})").format(sql.SQL(expression))
        return str(owner.value(query, "text"))


def own_columns(portal: Connection, table: str) -> list[str]:
    """Return the columns that the portal's table has beside those that are carried always."""
    names = {"table": table, "known": list(replicated(table).columns)}
    return [name for (name,) in portal.execute(QUERIES["own_columns"], names)]
