"""Read rows from JSON and CSV files of any size, one at a time."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, BinaryIO, Final, NoReturn

from pysync.errors import InvalidValueError

_CHUNK_CHARACTERS: Final = 1 << 16
_MAX_ROW_CHARACTERS: Final = 1 << 20
_AFTER_NUMBER: Final = (" ", "\t", "\n", "\r", ",", "]")
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class InputFormat(StrEnum):
    """What a file of rows holds."""

    JSON = "json"
    CSV = "csv"


def read_rows(file: BinaryIO, format: InputFormat, known: frozenset[str]) -> Iterator[Any]:
    """Read a file row by row, in constant memory.

    :param file: UTF-8, with or without a byte order mark. JSON is an array, or one value after
        another as in JSON lines; CSV begins with a header.
    :param known: names of which a CSV header has to have one.
    :returns: JSON values, or a CSV file's cells by their names in the header; cells beyond it are
        under ``None``. Empty lines are skipped.
    :raises InvalidValueError: if the file is none of that, as soon as it shows.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    rows = _json_rows(text) if format is InputFormat.JSON else _csv_rows(text, known)
    done = 0
    try:
        for row in rows:
            yield row
            done += 1
    except UnicodeDecodeError as error:
        raise InvalidValueError(
            f"input isn't UTF-8: byte 0x{error.object[error.start]:02x} after row {done}",
            "save it as UTF-8",
        ) from None
    except (csv.Error, json.JSONDecodeError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise InvalidValueError(
            f"input isn't {format.upper()}: {reason}, after row {done}",
            "mend the file, or name its format with --input-format",
        ) from None
    finally:
        text.detach()


def _csv_rows(text: io.TextIOWrapper, known: frozenset[str]) -> Iterator[Mapping[str | None, Any]]:
    reader = csv.reader(_lines(text), strict=True)
    header = next(reader, [])
    if not known & set(header):
        raise InvalidValueError(
            "input has no header: none of its columns has the name of a field",
            f"begin with a line that names the columns, such as {', '.join(sorted(known)[:3])}",
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InvalidValueError(
            f"input has column '{twice}' twice", "give each column a name of its own"
        )
    for cells in reader:
        row: dict[str | None, Any] = dict(zip(header, cells, strict=False))
        if len(cells) > len(header):
            row[None] = cells[len(header) :]
        if cells:
            yield row


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_MAX_ROW_CHARACTERS):
        if len(line) == _MAX_ROW_CHARACTERS:
            raise csv.Error(f"a line has more than {_MAX_ROW_CHARACTERS:,} characters")
        yield line


def _json_rows(text: io.TextIOWrapper) -> Iterator[Any]:
    reader = _JsonReader(text)
    first = reader.next_character()
    if first == "[":
        reader.skip()
        if reader.next_character() != "]":
            yield reader.value()
            while reader.next_character() == ",":
                reader.skip()
                reader.next_character()
                yield reader.value()
        if reader.next_character() != "]":
            reader.fail("Expecting ',' or ']'")
        reader.skip()
        if reader.next_character():
            reader.fail("Expecting nothing after ']'")
        return
    if not first:
        reader.fail("Expecting value")
    while reader.next_character():
        yield reader.value()


class _JsonReader:
    """A window on JSON text that takes in more where a value goes on.

    A parser's library would do, were it not that ijson turns lone surrogates into question marks:
    what has to be reported would look fine.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        # Numbers aren't looked at, and as integers would be refused beyond some thousand digits.
        self._decode = json.JSONDecoder(parse_int=float, parse_constant=_refuse).raw_decode
        self._text = text
        self._window = ""
        self._at = 0

    def next_character(self) -> str:
        """Skip white space; return the character after it, or nothing at the end."""
        while True:
            match = _SPACE.match(self._window, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._take_in():
                return ""

    def skip(self) -> None:
        """Skip the character that is next."""
        self._at += 1

    def value(self) -> Any:
        """Return the value that begins here."""
        while True:
            try:
                value, end = self._decode(self._window, self._at)
            except json.JSONDecodeError:
                if self._goes_on():
                    continue
                raise
            except RecursionError:
                self.fail("Expecting less depth")
            # What is a number so far may be the beginning of another.
            unsure = isinstance(value, float) and self._window[end : end + 1] not in _AFTER_NUMBER
            if unsure and self._goes_on():
                continue
            self._at = end
            return value

    def fail(self, reason: str) -> NoReturn:
        """Refuse the text."""
        raise json.JSONDecodeError(reason, self._window, self._at)

    def _goes_on(self) -> bool:
        return len(self._window) - self._at <= _MAX_ROW_CHARACTERS and self._take_in()

    def _take_in(self) -> bool:
        chunk = self._text.read(_CHUNK_CHARACTERS)
        self._window = self._window[self._at :] + chunk
        self._at = 0
        return bool(chunk)


def _refuse(constant: str) -> NoReturn:
    raise json.JSONDecodeError(f"{constant} is no JSON", constant, 0)
