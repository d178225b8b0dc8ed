"""A report as data for programs: JSON with a schema."""

import json
from dataclasses import asdict
from datetime import datetime
from importlib import resources
from typing import Any, Final

from pysync.watching.status.model import Report, State

_LEVELS: Final = {state.value: int(state.level) for state in State}


def document(report: Report) -> dict[str, Any]:
    """Return a report as plain data, as ``status.schema.json`` describes it."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(report), default=_plain))
    for each in plain["courses"]:
        each["level"] = _LEVELS[each["state"]]
    return plain


def schema() -> dict[str, Any]:
    """Return the JSON schema of ``pysync status --format json``."""
    text = resources.files(__package__).joinpath("status.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _plain(value: datetime | State) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value.value)
