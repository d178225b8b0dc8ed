"""What is printed: whole, plain, and never taken for markup."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.console import Console

from pysync.cli import output
from pysync.types import JSON_VERSION


def capture(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, **options: object) -> io.StringIO:
    """Point the consoles to a string, as a terminal or as a pipe."""
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: terminal)
    for name in ("out", "err"):
        console = Console(
            file=written,
            force_terminal=terminal,
            highlight=False,
            soft_wrap=name == "err",
            **options,  # type: ignore[arg-type]
        )
        monkeypatch.setattr(output, name, lambda console=console: console)
        monkeypatch.setattr(sys, f"std{name}", written)
    return written


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_bytes_are_readable(count: int | None, text: str) -> None:
    assert output.bytes_text(count) == text


def test_json_is_raw_and_has_a_version(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"courses": [{"course_id": "[bold]курс[/bold]", "lag_bytes": 10**15, "x": None}]}
    output.print_json(document)
    assert json.loads(capsys.readouterr().out) == {"version": JSON_VERSION, **document}


@pytest.mark.parametrize("terminal", [True, False])
def test_text_is_no_markup(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    written = capture(monkeypatch, terminal=terminal, color_system=None)
    output.say("[bold]A[/bold] [/] http://x 'y' 1")
    output.say_aside("[red]B[/red]")
    assert written.getvalue() == "[bold]A[/bold] [/] http://x 'y' 1\n[red]B[/red]\n"


def test_text_between_colons_is_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("CS:star:101")
    output.print_rows(output.Format.TABLE, {}, ("course",), [("CS:star:102",)])
    output.say_aside("CS:star:103")
    shown = capsys.readouterr()
    assert "CS:star:101" in shown.out
    assert "CS:star:102" in shown.out
    assert "CS:star:103" in shown.err


def test_lines_are_never_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = capture(monkeypatch, terminal=True, color_system=None, width=20)
    output.say("word " * 50)
    output.say_aside("word " * 50)
    assert len(written.getvalue().splitlines()) == 2


def table_of(monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    written = capture(monkeypatch, terminal=True, color_system=None, width=40)
    output.print_rows(output.Format.TABLE, {}, ("course", "n"), [(text, 7)], right=("n",))
    return written.getvalue()


def test_cells_are_no_markup_and_folded_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = table_of(monkeypatch, "[bold]" + "x" * 100)
    assert "".join(line[:-5].strip() for line in shown.splitlines()[3:]).startswith("[bold]xxx")
    assert shown.count("x") == 100
    assert max(map(len, shown.splitlines())) <= 40
    assert "…" not in shown


def test_tables_are_plain_ascii_where_the_output_is(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=written, force_terminal=True, width=40)
    monkeypatch.setattr(output, "out", lambda: console)
    output.print_rows(output.Format.TABLE, {}, ("course",), [("A",)])
    written.flush()
    assert written.buffer.getvalue().isascii()


def test_progress_in_a_pipe_is_a_line_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    written = capture(monkeypatch, terminal=False)
    with output.steps() as steps:
        steps.step("subscribing")
        steps.step("first copy", 20000)
        steps.advance(5)
        steps.warn("[slow]")
    assert written.getvalue() == "subscribing …\nfirst copy (20,000) …\nwarning: [slow]\n"


def test_progress_on_a_terminal_ends_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    written = capture(monkeypatch, terminal=True, width=80)
    with output.steps() as steps:
        steps.step("subscribing")
        steps.step("first [copy]", 10)
        steps.advance(5)
    last = next(line for line in written.getvalue().splitlines()[::-1] if "first [copy]" in line)
    assert "100%" in last


def test_a_failure_does_not_show_its_step_as_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    written = capture(monkeypatch, terminal=True, width=80)

    def fail() -> None:
        with output.steps() as steps:
            steps.step("first copy", 10)
            steps.advance(5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "100%" not in written.getvalue()
