"""``pysync group``."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Create groups, and add and remove users.", no_args_is_help=True, rich_markup_mode=None
)
