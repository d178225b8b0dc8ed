"""Adopt tables that were there before pysync, because Django made them.

:func:`inspect` reads what is there, :func:`plan` compares it with what is needed and returns the
statements that complete it, or refuses. Nothing here changes a database.
"""

from pysync.adoption.completion import Plan, Side, plan, type_name
from pysync.adoption.found import FoundColumn, FoundTable, Restriction, inspect

__all__ = [
    "FoundColumn",
    "FoundTable",
    "Plan",
    "Restriction",
    "Side",
    "inspect",
    "plan",
    "type_name",
]
