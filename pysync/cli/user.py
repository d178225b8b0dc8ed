"""``pysync user``."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Look at users and change them.", no_args_is_help=True, rich_markup_mode=None
)
