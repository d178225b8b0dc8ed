"""Files of rows on the command line: how they are opened, and what is printed of them."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from pysync.cli.output import Format, print_json, say, steps
from pysync.errors import InvalidValueError
from pysync.students.rows import InputFormat
from pysync.students.validation import FieldError

_ROWS_PER_ADVANCE: Final = 1000


@dataclass
class Report:
    """What is printed of rows that are checked: lines as they come, or JSON in the end."""

    format: Format
    rows: int = 0
    with_errors: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)

    def add(self, errors: Sequence[FieldError]) -> None:
        """Count a row and take its errors."""
        self.rows += 1
        self.with_errors += bool(errors)
        if self.format is Format.JSON:
            self.errors += (
                {"row": self.rows, "field": name or None, "message": message}
                for name, message in errors
            )
            return
        if errors and self.with_errors == 1:
            say(f"{'row':>9}  {'field':<18}  error")
        for name, message in errors:
            say(f"{self.rows:>9}  {name or '-':<18}  {message}")

    def end(self, *, complete: bool) -> None:
        """Print the counts; of what can't be read to its end JSON only, unless it has no rows."""
        if self.format is Format.JSON and (complete or self.rows):
            counts = {"rows": self.rows, "rows_with_errors": self.with_errors}
            print_json({"errors": self.errors, **counts, "complete": complete})
        elif complete:
            say(f"{self.rows:,} rows checked, {self.with_errors:,} with errors")


def format_of(file: str) -> InputFormat:
    """Return what a file holds, by its name."""
    suffix = Path(file).suffix.lower()
    if suffix == ".csv":
        return InputFormat.CSV
    if suffix in (".json", ".jsonl", ".ndjson"):
        return InputFormat.JSON
    raise InvalidValueError(
        f"file '{file}' refused: its name ends neither in .json nor in .csv",
        "say what it holds with --input-format",
    )


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """Open a file that a command was given; ``-`` is standard input."""
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        found = Path(file).open("rb")  # noqa: SIM115 - closed below
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidValueError(f"file '{file}' can't be read: {reason}", "check it") from None
    with found:
        yield found


def with_progress(file: BinaryIO, rows: Iterator[Any]) -> Iterator[Any]:
    """Pass rows on; on a terminal, show how much of the file has been read."""
    if not (sys.stderr.isatty() and file.seekable()):
        yield from rows
        return
    with steps() as progress:
        progress.step("Checking", total=max(os.fstat(file.fileno()).st_size, 1))
        for number, row in enumerate(rows):
            if number % _ROWS_PER_ADVANCE == 0:
                progress.advance(file.tell())
            yield row
