"""The functions of ``sql/`` as one database needs them: with what its portal has decided.

That is which columns of its own are carried, and which enrollments count. What a revision froze has
neither.
"""

from collections.abc import Iterator

from psycopg import sql

from pysync.db.sql_files import folder, split
from pysync.migrate.carried import QUERIES, Carried, Key
from pysync.migrate.lineage import Lineage
from pysync.migrate.places import render
from pysync.models.replicated import CarriedColumn, carrying
from pysync.types import Side


def functions(lineage: Lineage, carried: Carried, counts: str | None) -> Iterator[str]:
    """Return the statements that make those functions anew that such a decision concerns.

    :param counts: the column that says which enrollments count; else all do.
    """
    side = lineage.side
    gone = (CarriedColumn(*of, type="text") for of in carried.removed)
    concerned, wanted = carrying((*carried.columns, *gone)), carrying(carried.columns)
    home = folder("sql") / lineage.name
    for file in sorted(home.rglob("*.sql")):
        text = file.read_text(encoding="utf-8")
        plain = render(text)
        # Which one it was before doesn't matter: a file that has a place for it is made anew.
        if render(text, concerned, side, "any") == plain:
            continue
        filled = render(text, wanted, side, counts)
        if side is Side.PORTAL and filled != plain:
            filled = filled.replace(
                "set search_path = pg_catalog, pg_temp",
                "set search_path = pg_catalog, course, pg_temp",
            )
        # Owners, rights and triggers stay.
        yield from (each for each in split(filled) if "create or replace function" in each)


def fallback(of: Key) -> Iterator[sql.Composed]:
    """Return what makes the function that a row of the portal's has once it has lost a column."""
    for name in ("make", "close", "grant", "describe"):
        yield QUERIES[f"{name}_fallback"].format(**_names(of))


def no_fallback(of: Key) -> sql.Composed:
    """Return what drops it."""
    return QUERIES["drop_fallback"].format(**_names(of))


def _names(of: Key) -> dict[str, sql.Identifier]:
    return {"table": sql.Identifier("public", of[0]), "fallback": sql.Identifier("course", of[1])}
