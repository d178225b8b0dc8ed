"""Logging of what runs long: one line per event, on standard error."""

import logging
import os
import time
from typing import Annotated, Final

import typer

from pysync.errors import PysyncError
from pysync.texts import visible

VARIABLE: Final = "PYSYNC_LOG"

VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help=f"Log every event; {VARIABLE} names other levels.")
]


class _Lines(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, whatever texts of others are in it."""
        return visible(super().format(record))


def log_events(*, verbose: bool) -> None:
    """Log what an operator must know, or every event; the level in ``PYSYNC_LOG`` wins.

    :raises PysyncError: if that isn't one.
    """
    level = os.environ.get(VARIABLE, "info" if verbose else "warning").upper()
    if level not in logging.getLevelNamesMapping():
        raise PysyncError(
            f"{VARIABLE} '{level.lower()}' is no level",
            "set it to debug, info, warning, error or critical",
        )
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(handlers=[handler], force=True)  # others' warnings, too
    for name in ("pysync", "uvicorn"):
        logging.getLogger(name).setLevel(level)
