"""Queries that lie in files beside the modules that run them."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from psycopg import sql

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(module_file: str) -> Mapping[str, sql.SQL]:
    """Read the named queries of the package that a module is in.

    Each begins with a line ``-- name: what_it_reads`` and a comment that says what it is for.

    :param module_file: ``__file__`` of the module; ``queries.sql`` lies beside it.
    :returns: the queries by name; ``format`` them where they have places for identifiers, and give
        ``execute`` the values of their ``%(placeholders)s``.
    """
    text = Path(module_file).with_name("queries.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    # Comments with percent signs or braces would be taken for placeholders: they stay in the file.
    bodies = (re.sub(r"^\s*--.*\n", "", part, flags=re.MULTILINE).strip() for part in parts[1::2])
    return {
        name: sql.SQL(body.removesuffix(";")) for name, body in zip(parts[::2], bodies, strict=True)
    }
