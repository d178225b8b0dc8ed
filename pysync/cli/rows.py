"""Files of rows on the command line: how they are opened, and what is printed of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from pysync.cli.output import JSON_VERSION, err, print_raw, say, steps
from pysync.errors import InvalidValueError
from pysync.students.rows import InputFormat
from pysync.students.validation import FieldError

_ROWS_PER_ADVANCE: Final = 1000


class Report:
    """What is printed while rows are checked; nothing is kept."""

    def __init__(self) -> None:
        self.rows = 0
        self.with_errors = 0

    def add(self, errors: Sequence[FieldError]) -> None:
        """Count a row, and print its errors."""
        self.rows += 1
        if errors:
            self.with_errors += 1
            self._print(errors)

    def _print(self, errors: Sequence[FieldError]) -> None:
        raise NotImplementedError

    def end(self, *, complete: bool) -> None:
        """Print what comes last; nothing, if nothing could be read."""
        raise NotImplementedError


class TableReport(Report):
    """A line per error, as wide as it has to be, and one with the counts."""

    def _print(self, errors: Sequence[FieldError]) -> None:
        if self.with_errors == 1:
            print_raw(f"{'row':>9}  {'field':<18}  error\n")
        for field, message in errors:
            print_raw(f"{self.rows:>9}  {field or '-':<18}  {message}\n")

    def end(self, *, complete: bool) -> None:
        """Print the counts."""
        if complete:
            say(f"{self.rows:,} rows checked, {self.with_errors:,} with errors")


class JsonReport(Report):
    """One JSON document, written as the rows are read."""

    _begun = False

    def add(self, errors: Sequence[FieldError]) -> None:
        """Count a row, and write its errors."""
        self._begin()
        super().add(errors)

    def _print(self, errors: Sequence[FieldError]) -> None:
        for number, (field, message) in enumerate(errors):
            comma = "" if self.with_errors == 1 and number == 0 else ","
            error = {"row": self.rows, "field": field or None, "message": message}
            print_raw(f"{comma}\n    {json.dumps(error)}")

    def end(self, *, complete: bool) -> None:
        """Close the document; what couldn't be read to its end isn't complete."""
        if not complete and not self._begun:
            return
        self._begin()
        counts = {"rows": self.rows, "rows_with_errors": self.with_errors, "complete": complete}
        listed = ",\n".join(f'  "{name}": {json.dumps(count)}' for name, count in counts.items())
        print_raw(f"\n  ],\n{listed}\n}}\n")

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            print_raw(f'{{\n  "version": {JSON_VERSION},\n  "errors": [')


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
    if not (err.is_terminal and file.seekable()):
        yield from rows
        return
    with steps() as progress:
        progress.step("Checking", total=max(os.fstat(file.fileno()).st_size, 1))
        for number, row in enumerate(rows):
            if number % _ROWS_PER_ADVANCE == 0:
                progress.advance(file.tell())
            yield row
