"""Fill the places of the living SQL files, as what they are frozen to.

Files in ``sql/`` have places for what :mod:`pysync.models.replicated` declares, such as a table's
columns. Frozen copies have the columns themselves: a database is only ever sent what can be read
there, and what :mod:`pysync.migrate.carried` adds to it for columns of a portal's own.

========================================  =======================================================
``{user_columns}``                        ``password, last_login, …``: what a user has beside keys
``{copy.user_columns}``                   ``copy.password, copy.last_login, …``
``{'user_columns'}``                      ``'password', 'last_login', …``
``{copy.user_columns as declared}``       ``copy.password::varchar as password, …``
``{new.user_columns for copy}``           ``new.password, …``, for the row ``copy`` of the fan-out
``{copy.user_columns if there}``          ``copy.password, …``, as if read from the portal's table
``{user_guarded_columns}``                those, keys included, that only the portal writes
``{scrubbed_user_columns}``               those that say nothing any more of a deleted user, …
``{scrubbed_user_values}``                … what they hold instead, …
``{kept_user_columns}``                   … and those that stay; the name is neither
``{replicated_tables}``                   ``course.auth_user, course.auth_userprofile, …``
``{source_tables}``                       ``public.auth_user, public.auth_userprofile, …``
``{published_tables}``                    these and ``course.mark``
========================================  =======================================================

For ``user`` also ``profile``, ``enrollment`` and ``mark``.

Three places are empty, or a table's name, until a column of the portal's enrollments says which of
them count (:mod:`pysync.migrate.membership`):

========================================  =======================================================
``{enrollment.counts}``                   `` and course.counts(enrollment.is_active)``
``{new_rows.counting}``                   those rows of a table that count
``{before.uncounted}``                    `` or …``: the table has lost that column
========================================  =======================================================

Columns of a portal's own may be altered, renamed or dropped there at any time, and no write may
fail by that. So they are text in the fan-out, whatever they are on the portal, and where the
portal's own tables are read such a column is written as ``row.column``, which PostgreSQL reads as
``column(row)`` where the row hasn't got it: there is a function of that name for each, which
returns a ``course.absent``, and ``course.as_text`` then returns what it was. Of a copy
``course.unless_gone`` does, and rows of transition tables are cast: they are of no table's type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from psycopg import sql

from pysync.models.replicated import PUBLISHED, ReplicatedColumn, ReplicatedTable
from pysync.types import Side

_WIDTH: Final = 100
_PLACE: Final = re.compile(
    r"\{('?)(?:([a-z]\w*)\.)?([a-z]\w*)( as declared| for copy| if there)?\1\}"
)
_SHORT: Final = {"character varying": "varchar", "timestamp with time zone": "timestamptz"}
_ROWS: Final = {
    **{name: name for name in ("portal_user", "profile", "enrollment")},
    # A record's field would have to be there.
    **{name: f"({name})" for name in ("old", "new")},
    **{name: f"({name}.*::public.{{table}})" for name in ("before", "after")},
}
"""What the portal's functions call rows of the portal's tables, and how one is read."""

_COUNTED: Final = {
    "counts": " and course.counts({row}.{column})",
    "counting": "(select * from {row} as each where course.counts({each}.{column}))",
    "uncounted": " or pg_typeof({before}.{column}) <> 'boolean'::regtype",
}
"""What places have where a column says which enrollments count."""

_CAST: Final = {name: f"({name}.*::public.student_courseenrollment)" for name in ("each", "before")}


@dataclass(frozen=True)
class _Item:
    """A part of a list: a name or a value, and the column that it is for, if any."""

    text: str
    column: ReplicatedColumn | None = None
    table: str = ""

    def written(self, side: Side, quote: str, prefix: str, modifier: str) -> str:
        """Return it as a place has it."""
        column, text = self.column, self.text
        if quote or column is None:
            return f"{quote}{text}{quote}"
        name = column.identifier.as_string(None) if column.carried else column.name
        text = name if text == column.name else text
        if not column.carried:
            type_ = column.type.partition("(")[0]
            declared = f"::{_SHORT.get(type_, type_)} as {name}"
            return f"{_of(prefix)}{text}{declared if modifier == ' as declared' else ''}"
        alias = f" as {name}" if modifier == " as declared" else ""
        if side is Side.PORTAL and (prefix == "excluded" or modifier == " if there"):
            gone = f"copy.{name}" if prefix == "excluded" else column.default
            source = f"(null::public.{self.table}).{name}"
            as_there = f" as {name}" if modifier else ""
            return f"course.unless_gone({source}, {_of(prefix)}{name}, {gone}){as_there}"
        if side is Side.COURSE or prefix not in _ROWS:
            return f"{_of(prefix)}{text}{'::text' if text != name else ''}{alias}"
        row = _ROWS[prefix].format(table=self.table)
        if not modifier:
            return f"{row}.{name}"
        otherwise = f"copy.{name}" if modifier == " for copy" else column.default
        return f"course.as_text({row}.{name}, {otherwise}){alias}"


def _of(prefix: str) -> str:
    return f"{prefix}." if prefix else ""


def render(
    text: str,
    tables: Sequence[ReplicatedTable] = PUBLISHED,
    side: Side = Side.PORTAL,
    counts: str | None = None,
) -> str:
    """Fill the places of an SQL file; lists go on in as many lines as they need.

    :param tables: what courses are sent.
    :param side: whose file it is; that matters for columns of a portal's own only.
    :param counts: the column of the portal's enrollments that says which count; else all do.
    :raises ValueError: if a place isn't known.
    """
    places = _places(tuple(tables))
    done, end = "", 0
    for place in _PLACE.finditer(text):
        quote, prefix, name, modifier = place.groups()
        if name in _COUNTED and prefix and not quote and not modifier:
            items = [_counted(name, prefix, counts)]
        elif name in places:
            items = [
                each.written(side, quote, prefix or "", modifier or "") for each in places[name]
            ]
        else:
            raise ValueError(f"place {place[0]} isn't known: see pysync/migrate/places.py")
        done += text[end : place.start()]
        end = place.end()
        line = done.rpartition("\n")[2]
        rest = re.split(r"\n|\{", text[end:], maxsplit=1)[0]
        done = done.removesuffix(line) + _wrapped(line, items, rest)
    return done + text[end:]


def _counted(place: str, row: str, column: str | None) -> str:
    if column is None:
        return row if place == "counting" else ""
    name = sql.Identifier(column).as_string(None)
    return _COUNTED[place].format(row=row, column=name, **_CAST)


def _wrapped(line: str, items: list[str], rest: str) -> str:
    """Append items to a line; those that don't fit go below what the line's list began with."""
    begin = re.match(r"\s*((select|set|returning|values)\s+)?", line)
    indent = " " * (_opened(line) or (begin.end() if begin else 0))
    lines = [line]
    for number, item in enumerate(items, 1):
        piece = f"{item}," if number < len(items) else item
        follows = rest if number == len(items) else ""
        space = "" if number == 1 else " "
        too_long = len(lines[-1] + space + piece + follows) > _WIDTH and lines[-1].strip()
        if too_long:
            lines[-1] = lines[-1].rstrip()
            lines.append(indent + piece)
        else:
            lines[-1] += space + piece
    return "\n".join(lines)


def _opened(line: str) -> int:
    """Return the column after the last parenthesis that a line leaves open, or 0."""
    opening: list[int] = []
    for column, character in enumerate(line, 1):
        if character == "(":
            opening.append(column)
        elif character == ")" and opening:
            opening.pop()
    return opening[-1] if opening else 0


@lru_cache(maxsize=8)
def _places(tables: tuple[ReplicatedTable, ...]) -> dict[str, list[_Item]]:
    of_users = [table for table in tables if table.user_column]
    return {
        "replicated_tables": [_Item(f"course.{table.name}") for table in of_users],
        "source_tables": [_Item(f"public.{table.name}") for table in of_users],
        "published_tables": [_Item(f"course.{table.name}") for table in tables],
        **{name: list(items) for table in tables for name, items in _places_of(table)},
    }


def _places_of(table: ReplicatedTable) -> Iterator[tuple[str, Iterable[_Item]]]:
    described = {column.name: column for column in table.described}

    def items(names: Iterable[str]) -> Iterable[_Item]:
        return [_Item(name, described[name], table.name) for name in names]

    yield f"{table.stem}_columns", items(table.values)
    yield f"{table.stem}_guarded_columns", items(table.guarded)
    if scrubbed := table.scrubbed:
        yield f"scrubbed_{table.stem}_columns", items(scrubbed)
        yield (
            f"scrubbed_{table.stem}_values",
            [_Item(value, described[name], table.name) for name, value in scrubbed.items()],
        )
        kept = [name for name in table.values if name not in (*scrubbed, table.unique)]
        yield f"kept_{table.stem}_columns", items(kept)
