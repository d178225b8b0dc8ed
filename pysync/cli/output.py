"""One place for everything that is printed: tables, JSON, progress, errors.

Rich takes longer to import than most commands run: only what draws does so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from pysync.texts import Text, visible
from pysync.types import JSON_VERSION

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_PIPE_WIDTH: Final = 2000
"""Columns that a table may take where nobody looks at it: nothing is folded."""


class Format(StrEnum):
    """How a reading command prints."""

    TABLE = "table"
    JSON = "json"


def _console(**options: Any) -> Console:
    from rich.console import Console

    return Console(highlight=False, emoji=False, **options)


@cache
def out() -> Console:
    """Return standard output, to draw on."""
    return _console()


@cache
def err() -> Console:
    """Return standard error, to draw on."""
    return _console(stderr=True, soft_wrap=True)


def print_json(document: Mapping[str, Any]) -> None:
    """Print a JSON document, never wrapped or coloured."""
    print_raw(json.dumps({"version": JSON_VERSION, **plain(document)}, indent=2) + "\n")


def plain(value: Any) -> Any:
    """Return a value as JSON has it: rows by their fields' names, dates as ISO 8601 has them."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value


def print_raw(text: str) -> None:
    """Print text as it is: SQL for review."""
    sys.stdout.write(text)


def _write(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def say(text: str) -> None:
    """Print a line to standard output; what of it is to be copied stands on lines of its own."""
    _write(sys.stdout, _shown(text))


def say_lines(text: str) -> None:
    """Print lines of ours to standard output."""
    for line in text.splitlines():
        say(line)


def say_aside(text: str, style: str | None = None) -> None:
    """Print a line, as :func:`say` does, to standard error: progress, warnings, errors."""
    if style and sys.stderr.isatty():
        err().print(_shown(text), markup=False, style=style)
    else:
        _write(sys.stderr, _shown(text))


def _shown(text: str) -> str:
    return "\n".join(text.lines() if isinstance(text, Text) else [visible(text)])


def print_rows(
    format: Format,
    document: Mapping[str, Any],
    columns: Sequence[str],
    rows: Iterable[Iterable[object]],
    *,
    right: Iterable[str] = (),
    whole: Iterable[str] = (),
    none: str | None = None,
    total: Sequence[object] = (),
    notes: Iterable[str] = (),
) -> None:
    """Print what was found: rows as a table for people, or a document as JSON for programs.

    A table is fitted to a terminal, and never cut in a pipe.

    :param columns: the table's headings; without text in any of them, none is shown.
    :param rows: a value per column: numbers get their commas, ``None`` is shown as ``-``.
    :param right: columns with numbers.
    :param whole: columns that are never folded.
    :param none: what to say if there are no rows.
    :param total: a last row, set off from the others.
    :param notes: lines below the table.
    """
    if format is Format.JSON:
        print_json(document)
        return
    cells = [list(map(_cell, row)) for row in rows]
    if none is not None and not cells:
        say(none)
        return
    from rich import box
    from rich.table import Table

    utf8 = (out().encoding or "").lower().replace("-", "") == "utf8"
    frame = box.SIMPLE_HEAD if utf8 else box.ASCII
    table = Table(box=frame, pad_edge=False, show_header=any(columns))
    for each in columns:
        side: Literal["left", "right"] = "right" if each in right else "left"
        table.add_column(each, justify=side, overflow="fold", no_wrap=each in whole)
    for row in cells:
        table.add_row(*row)
    if total:
        table.add_section()
        table.add_row(*map(_cell, total))
    (out() if out().is_terminal else _console(file=sys.stdout, width=_PIPE_WIDTH)).print(table)
    for note in notes:
        say(note)


def _cell(value: object) -> str:
    """Return a value for a table: neither markup nor control characters count."""
    from rich.markup import escape

    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else escape(visible(str(value)))


def counted(count: int, noun: str) -> str:
    """Return a number of things: ``1 row``, ``2,000 rows``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


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


class Steps:
    """Progress of a command in steps: a bar on a terminal, a line per step elsewhere."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self._task: Any = None

    def step(self, description: str, total: int | None = None) -> None:
        """Begin a step of `total` units, or of unknown length."""
        if self._progress is None:
            say_aside(f"{description} …" if total is None else f"{description} ({total:,}) …")
            return
        self._finish()
        self._task = self._progress.add_task(visible(description), total=total)

    def advance(self, done: int) -> None:
        """Tell how many units of the step are done altogether."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done)

    def warn(self, message: str) -> None:
        """Print a warning above the progress."""
        say_aside(Text.plain("warning: ") + message, style="yellow")

    def _finish(self) -> None:
        if self._progress is not None and self._task is not None:
            total = self._progress.tasks[self._task].total or 1
            self._progress.update(self._task, total=total, completed=total)


@contextmanager
def steps() -> Iterator[Steps]:
    """Show progress on standard error while the block runs."""
    if not sys.stderr.isatty():
        yield Steps()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=err(),
        # What is printed meanwhile goes above the bar if it goes to the terminal, too.
        redirect_stdout=sys.stdout.isatty(),
        disable=not err().is_terminal,
    )
    with progress:
        shown = Steps(progress)
        yield shown
        shown._finish()  # noqa: SLF001
