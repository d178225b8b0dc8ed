"""``pysync account``."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Register accounts and activate them.", no_args_is_help=True, rich_markup_mode=None
)
