"""Fill the places of the living SQL files, as what they are frozen to.

Files in ``sql/`` have places for what :mod:`pysync.models.replicated` declares, such as a table's
columns. Frozen copies have the columns themselves: a database is only ever sent what can be read
there.

========================================  =======================================================
``{user_columns}``                        ``password, last_login, …``: what a user has beside keys
``{copy.user_columns}``                   ``copy.password, copy.last_login, …``
``{'user_columns'}``                      ``'password', 'last_login', …``
``{copy.user_columns as declared}``       ``copy.password::varchar as password, …``
``{user_guarded_columns}``                those, keys included, that only the portal writes
``{scrubbed_user_columns}``               those that say nothing any more of a deleted user, …
``{scrubbed_user_values}``                … what they hold instead, …
``{kept_user_columns}``                   … and those that stay; the name is neither
``{replicated_tables}``                   ``course.auth_user, course.auth_userprofile, …``
``{source_tables}``                       ``public.auth_user, public.auth_userprofile, …``
``{published_tables}``                    these and ``course.mark``
========================================  =======================================================

For ``user`` also ``profile``, ``enrollment`` and ``mark``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from pysync.models.columns import type_name
from pysync.models.replicated import PUBLISHED, REPLICATED, ReplicatedTable

_WIDTH: Final = 100
_PLACE: Final = re.compile(r"\{('?)(?:([a-z]\w*)\.)?([a-z]\w*)( as declared)?\1\}")
_SHORT: Final = {"character varying": "varchar", "timestamp with time zone": "timestamptz"}

_Item = tuple[str, str]
"""An expression, and what `as declared` makes of it: type and name."""


def render(text: str) -> str:
    """Fill the places of an SQL file; lists go on in as many lines as they need.

    :raises ValueError: if a place isn't known.
    """
    done, end = "", 0
    for place in _PLACE.finditer(text):
        quote, prefix, name, as_declared = place.groups()
        if name not in _places():
            raise ValueError(f"place {place[0]} isn't known: see migrations/places.py")
        items = [
            f"{f'{prefix}.' if prefix else ''}{quote}{item}{quote}{declared if as_declared else ''}"
            for item, declared in _places()[name]
        ]
        done += text[end : place.start()]
        end = place.end()
        line = done.rpartition("\n")[2]
        rest = re.split(r"\n|\{", text[end:], maxsplit=1)[0]
        done = done.removesuffix(line) + _wrapped(line, items, rest)
    return done + text[end:]


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


@cache
def _places() -> dict[str, list[_Item]]:
    return {
        "replicated_tables": [(f"course.{table.name}", "") for table in REPLICATED],
        "source_tables": [(f"public.{table.name}", "") for table in REPLICATED],
        "published_tables": [(f"course.{table.name}", "") for table in PUBLISHED],
        **{name: list(items) for table in PUBLISHED for name, items in _places_of(table)},
    }


def _places_of(table: ReplicatedTable) -> Iterator[tuple[str, Iterable[_Item]]]:
    as_declared = {}
    for column in table.declared:
        type_ = type_name(column).partition("(")[0]
        as_declared[column.name] = f"::{_SHORT.get(type_, type_)} as {column.name}"

    def items(names: Iterable[str]) -> Iterable[_Item]:
        return [(name, as_declared[name]) for name in names]

    yield f"{table.stem}_columns", items(table.values)
    yield f"{table.stem}_guarded_columns", items(table.guarded)
    if scrubbed := table.scrubbed:
        yield f"scrubbed_{table.stem}_columns", items(scrubbed)
        yield (
            f"scrubbed_{table.stem}_values",
            [(value, as_declared[name]) for name, value in scrubbed.items()],
        )
        kept = [name for name in table.values if name not in (*scrubbed, table.unique)]
        yield f"kept_{table.stem}_columns", items(kept)
