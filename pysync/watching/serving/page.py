"""The page: one HTML document that holds its style, its program and its data."""

import hashlib
import json
import re
import time
from base64 import b64encode
from functools import cache
from importlib import resources
from typing import Any, Final

from pysync.types import JSON_VERSION
from pysync.watching.serving.watch import BUCKET_SECONDS, BUCKETS, Known
from pysync.watching.status import Report, State, failover
from pysync.watching.status.document import document

_DATA: Final = {"version": JSON_VERSION, "states": [[state.value, state.sign] for state in State]}
SNAPSHOT_OLD_SECONDS: Final = 600
"""From which age on a page in a file says that it is old."""


def static_page(found: Report) -> str:
    """Return the page as a file that shows one report and nothing else."""
    data = {"live": False, "old_seconds": SNAPSHOT_OLD_SECONDS, "error": None}
    return _fill({**_DATA, **data, "report": document(found), "failover": _failover(found)})


def live_page(known: Known) -> str:
    """Return the page as it shows what is known, and then refreshes itself."""
    return _fill(live_data(known))


def live_data(known: Known, since: int = 0) -> dict[str, Any]:
    """Return what the page shows, as plain data.

    :param since: the number of the first bucket of history that is wanted.
    """
    trouble = known.trouble
    buckets = [each for each in known.history if each.number >= since]
    courses = [each.course_id for each in known.report.courses] if known.report else []
    return {
        **_DATA,
        "live": True,
        "interval_seconds": known.interval_seconds,
        "age_seconds": known.age_seconds,
        "old_seconds": known.old_seconds,
        "error": trouble and {"message": trouble.message, "remedy": trouble.remedy},
        "report": known.report and document(known.report),
        "failover": _failover(known.report) if known.report else [],
        "history": {
            "now": int(time.monotonic() // BUCKET_SECONDS),
            "length": BUCKETS,
            "numbers": [each.number for each in buckets],
            "lags": {
                course_id: [each.lags.get(course_id) for each in buckets] for course_id in courses
            },
        },
    }


def _failover(found: Report) -> list[dict[str, Any]]:
    return [{"text": each, "commands": each.commands} for each in failover.unready(found)]


def policy() -> str:
    """Return the content security policy: our own style and program, and no other source."""
    style, program = (_hash(_file(name)) for name in ("page.css", "page.js"))
    return (
        f"default-src 'none'; style-src {style}; script-src {program}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    )


def _fill(data: dict[str, Any]) -> str:
    # Inside a script element "<" could end it; JSON has it as an escape as well.
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "policy": policy(),
        "style": _file("page.css"),
        "program": _file("page.js"),
        "data": embedded,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _file("page.html"))


@cache
def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
