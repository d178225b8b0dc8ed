"""Read rows from JSON and CSV files.

JSON lines and CSV are read a row at a time, whatever their size. A JSON array is read as a whole.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import chain
from typing import Any, BinaryIO, Final, NoReturn

from pysync.errors import InvalidValueError

MAX_DOCUMENT_CHARACTERS: Final = 1 << 26
"""How long a JSON array may be: it takes several times as much memory."""

_MAX_ROW_CHARACTERS: Final = 1 << 20
_SPACE: Final = " \t\n\r"


class InputFormat(StrEnum):
    """What a file of rows holds."""

    JSON = "json"
    CSV = "csv"


def read_rows(file: BinaryIO, format: InputFormat, known: frozenset[str]) -> Iterator[Any]:
    """Read a file row by row, JSON lines and CSV in constant memory.

    :param file: UTF-8, with or without a byte order mark. JSON is an array of at most
        :data:`MAX_DOCUMENT_CHARACTERS`, an object, or a value per line; CSV begins with a header.
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
    except (csv.Error, ValueError, RecursionError) as error:
        reason = "Expecting less depth" if isinstance(error, RecursionError) else str(error)
        if done and isinstance(error, json.JSONDecodeError):
            reason = error.msg  # line and column are those of a document, not of a row in a line
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


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


# Numbers aren't looked at, and as integers would be refused beyond some thousand digits.
_DECODER: Final = json.JSONDecoder(parse_int=float, parse_constant=_refuse)


def _json_rows(text: io.TextIOWrapper) -> Iterator[Any]:
    begin = ""
    while not begin and (line := text.readline(_MAX_ROW_CHARACTERS)):
        begin = line.lstrip(_SPACE)
    if begin.startswith("[") or not _is_whole(begin):
        begin += text.read(MAX_DOCUMENT_CHARACTERS)
        if len(begin) > MAX_DOCUMENT_CHARACTERS:
            raise InvalidValueError(
                f"input is an array or object of more than {MAX_DOCUMENT_CHARACTERS:,} characters",
                "write an object per line instead: they are read one at a time",
            )
        document = _DECODER.decode(begin)
        yield from document if isinstance(document, list) else [document]
        return
    for line in chain([begin], _lines(text)):
        rest = line.lstrip(_SPACE)
        while rest:
            value, end = _DECODER.raw_decode(rest)
            yield value
            rest = rest[end:].lstrip(_SPACE)


def _is_whole(line: str) -> bool:
    """Tell whether a line begins with a value that ends in it: it is JSON lines' first then."""
    if len(line) == _MAX_ROW_CHARACTERS:
        raise csv.Error(f"a line has more than {_MAX_ROW_CHARACTERS:,} characters")
    try:
        _DECODER.raw_decode(line)
    except json.JSONDecodeError:
        return False
    return True
