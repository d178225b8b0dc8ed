"""``pysync discussion``."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Tell the discussion service about users.", no_args_is_help=True, rich_markup_mode=None
)
