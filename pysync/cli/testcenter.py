"""``pysync testcenter``."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Check, create and register test-center users.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
