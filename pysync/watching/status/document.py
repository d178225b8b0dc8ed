"""A report as data for programs: JSON with a schema, lines of tab-separated values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from importlib import resources
from typing import Any, Final

from pysync.watching.status.model import CourseStatus, Report

COLUMNS: Final = tuple(name for name in CourseStatus.__dataclass_fields__ if name != "drift")
"""Keys of a course in JSON, but for ``drift``; also the columns of TSV."""


def document(report: Report) -> dict[str, Any]:
    """Return a report as plain data, as ``status.schema.json`` describes it."""
    return {
        "at": report.at.isoformat(),
        "courses": [_plain(asdict(each)) for each in report.courses],
        "orphans": [_plain(asdict(each)) for each in report.orphans],
    }


def schema() -> dict[str, Any]:
    """Return the JSON schema of ``pysync status --format json``."""
    text = resources.files(__package__).joinpath("status.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def tsv_lines(report: Report) -> Iterator[str]:
    r"""Return a heading and a line per course.

    Backslash, tab and newline are written as ``\\``, ``\t`` and ``\n``; unknown values are empty.
    """
    yield "\t".join(COLUMNS)
    for each in report.courses:
        values = _plain(asdict(each))
        yield "\t".join(_cell(values[name]) for name in COLUMNS)


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case Enum():
            return value.value
        case datetime():
            return value.isoformat()
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).replace("\\", "\\\\")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
