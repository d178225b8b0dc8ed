"""One place for everything that is printed: tables, JSON, progress, errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

import typer
from rich import box, markup
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pysync.types import JSON_VERSION

__all__ = [
    "FORMAT_OPTION",
    "JSON_VERSION",
    "Format",
    "Steps",
    "bytes_text",
    "clear",
    "err",
    "escape",
    "new_table",
    "out",
    "print_json",
    "print_raw",
    "print_table",
    "printable",
    "say",
    "say_aside",
    "seconds_text",
    "steps",
]

_CONTROLS: Final = {code: ascii(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0))}

PIPE_WIDTH: Final = 2000
"""Columns that a table may take where nobody looks at it: nothing is folded."""

out: Final = Console(highlight=False, soft_wrap=False, emoji=False)
err: Final = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


class Format(StrEnum):
    """How a reading command prints."""

    TABLE = "table"
    JSON = "json"


FORMAT_OPTION: Final = typer.Option(
    "--format", help="Print a table for people or JSON for programs."
)


def print_json(document: dict[str, Any]) -> None:
    """Print a JSON document, never wrapped or coloured."""
    sys.stdout.write(json.dumps({"version": JSON_VERSION, **document}, indent=2) + "\n")


def print_raw(text: str) -> None:
    """Print text as it is: SQL for review."""
    sys.stdout.write(text)


def printable(text: str) -> str:
    """Spell out control characters: ids may hold any, and a terminal obeys them."""
    return text.translate(_CONTROLS)


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def escape(text: str) -> str:
    """Return text for a table's cell: neither markup nor control characters count."""
    return markup.escape(printable(text))


def say(text: str) -> None:
    """Print lines to standard output."""
    out.print(_printable_lines(text), markup=False, soft_wrap=True)


def say_aside(text: str, style: str | None = None) -> None:
    """Print a line to standard error: progress, warnings, errors."""
    err.print(_printable_lines(text), markup=False, style=style)


def new_table(*columns: str, right: tuple[str, ...] = (), whole: tuple[str, ...] = ()) -> Table:
    """Return an empty table; `right` names columns with numbers, `whole` those never folded."""
    ascii_only = (out.encoding or "").lower().replace("-", "") != "utf8"
    table = Table(box=box.ASCII if ascii_only else box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=column in whole,
        )
    return table


def print_table(table: Table) -> None:
    """Print a table: fitted to a terminal, never cut in a pipe."""
    if out.is_terminal:
        out.print(table)
    else:
        wide = Console(file=sys.stdout, width=PIPE_WIDTH, highlight=False, emoji=False)
        wide.print(table)


def bytes_text(count: int | None) -> str:
    """Return bytes for people: ``512 B``, ``1.5 MiB``; ``-`` if unknown."""
    if count is None:
        return "-"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def seconds_text(seconds: float | None) -> str:
    """Return a duration for people: ``0.12 s``, ``3 min``, ``2 h``; ``-`` if unknown."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.2f} s"


def clear() -> None:
    """Clear a terminal, for what is printed again and again; a pipe gets it all."""
    if out.is_terminal:
        out.clear()


class Steps:
    """Progress of a command in steps: a bar on a terminal, a line per step elsewhere."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: Any = None

    def step(self, description: str, total: int | None = None) -> None:
        """Begin a step of `total` units, or of unknown length."""
        if not self._progress.console.is_terminal:
            say_aside(f"{description} …" if total is None else f"{description} ({total:,}) …")
            return
        self._finish()
        self._task = self._progress.add_task(description, total=total)

    def advance(self, done: int) -> None:
        """Tell how many units of the step are done altogether."""
        if self._task is not None:
            self._progress.update(self._task, completed=done)

    def warn(self, message: str) -> None:
        """Print a warning above the progress."""
        say_aside(f"warning: {message}", style="yellow")

    def _finish(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[self._task]
            total = task.total if task.total is not None else 1
            self._progress.update(self._task, total=total, completed=total)


@contextmanager
def steps() -> Iterator[Steps]:
    """Show progress on standard error while the block runs."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=err,
        # What is printed meanwhile goes above the bar if it goes to the terminal, too.
        redirect_stdout=out.is_terminal,
        disable=not err.is_terminal,
    )
    with progress:
        shown = Steps(progress)
        yield shown
        shown._finish()  # noqa: SLF001
