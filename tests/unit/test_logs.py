"""Log lines: one per event, quiet by default, and no text of others acts on a terminal."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from pysync.cli.logs import VARIABLE, log_events
from pysync.errors import PysyncError

LOGGERS = ("pysync", "uvicorn", "httpx")


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give back the handlers and levels that were there."""
    monkeypatch.delenv(VARIABLE, raising=False)
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {each: logging.getLogger(each).level for each in LOGGERS}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def said(capsys: pytest.CaptureFixture[str], *, verbose: bool = False) -> list[str]:
    log_events(verbose=verbose)
    for name in LOGGERS:
        logging.getLogger(name).info("event of %s", name)
    logging.getLogger("pysync.watching").warning("course '%s' is stuck", "a\x1b[31m\nb")
    return capsys.readouterr().err.splitlines()


def test_by_default_only_what_an_operator_must_know_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (line,) = said(capsys)
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ WARNING course 'a\\x1b\[31m\\nb' is stuck"
    assert re.fullmatch(pattern, line)


def test_verbose_says_every_event_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.partition("Z ")[2] for line in said(capsys, verbose=True)]
    assert lines[:2] == ["INFO event of pysync", "INFO event of uvicorn"]
    assert len(lines) == 3


def test_the_environment_names_the_level(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "error")
    assert said(capsys, verbose=True) == []
    monkeypatch.setenv(VARIABLE, "loud")
    with pytest.raises(PysyncError, match="PYSYNC_LOG 'loud' is no level; set it to debug, "):
        log_events(verbose=False)
