"""Adopt tables that were there before pysync, because Django made them.

:func:`inspect` reads what is there, :func:`plan` compares it with what is needed and returns the
statements that complete it, or refuses. Nothing here changes a database.
"""

from pysync.adoption.completion import plan
from pysync.adoption.found import FoundTable, inspect
from pysync.adoption.plans import Plan

__all__ = ["FoundTable", "Plan", "inspect", "plan"]
