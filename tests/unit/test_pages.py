"""What pages say is so: commands and options, links, files, states, metrics, settings, versions."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import pytest
import typer

import pysync
from pysync.cli.app import app
from pysync.types import SUPPORTED_MAJORS
from pysync.watching.status.metrics import prometheus_text
from pysync.watching.status.model import Level, Report, State
from tests.pages import CHECKOUT, Page, page, pages

FRONT_PAGE_WORDS = 800
WITH_CONTENTS = [
    "sql/README.md",
    "sql/DESIGN.md",
    "sql/SECURITY.md",
    "migrations/README.md",
    "pysync/README.md",
    "pysync/students/README.md",
    "tests/README.md",
    ".github/CONTRIBUTING.md",
]

COMMON_OPTIONS = {"-v", "--portal", "--help"}

each_page = pytest.mark.parametrize("each", pages(), ids=str)


class Command(NamedTuple):
    """A command as it is: its options, and how many arguments it takes at most."""

    options: dict[str, Any]
    arguments: int
    is_group: bool
    help: str


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Command]]:
    options: dict[str, Any] = {}
    arguments = 0
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            arguments += 1 if parameter.nargs == 1 and not parameter.multiple else 1000
        elif not parameter.hidden:
            options |= dict.fromkeys((*parameter.opts, *parameter.secondary_opts), parameter)
    group = hasattr(command, "list_commands")
    context = command.context_class(command, terminal_width=1000, max_content_width=1000)
    yield path, Command(options, arguments, group, command.get_help(context))
    if group:
        for name in command.list_commands(context):
            yield from _walk(command.get_command(context, name), (*path, name))


@cache
def commands() -> dict[tuple[str, ...], Command]:
    return dict(_walk(typer.main.get_command(app), ("pysync",)))


def mentions(each: Page) -> Iterator[tuple[int, str]]:
    """Yield each command line of pysync's on a page, in text or as a line of a shell block."""
    for number, span in each.spans:
        if span == "pysync" or span.startswith("pysync "):
            yield number, span
    for block in each.blocks("sh"):
        joined = block.text.replace("\\\n", " ")
        for line in joined.splitlines():
            if line.removeprefix(".venv/bin/").startswith("pysync "):
                yield block.line, line.removeprefix(".venv/bin/")


class Said(NamedTuple):
    """A command line taken apart."""

    path: tuple[str, ...]
    options: dict[str, str | None]
    arguments: list[str]


def parsed(text: str) -> Said:
    """Take a command line, or its synopsis with brackets and ellipses, apart."""
    words = shlex.split(re.sub(r"[\[\]]|…(?=\s|$|\])", " ", text).replace("…", ""))
    path: tuple[str, ...] = ("pysync",)
    options: dict[str, str | None] = {}
    arguments: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("--"):
            known = commands()[path].options.get(word)
            assert known is not None, f"'{' '.join(path)}' has no option {word}"
            options[word] = None if known.is_flag else next(rest, None)
        elif (*path, word) in commands():
            path = (*path, word)
        else:
            arguments.append(word)
    found = commands()[path]
    assert len(arguments) <= found.arguments, f"'{' '.join(path)}' doesn't take {arguments}"
    return Said(path, options, arguments)


def _choices(command: Command, option: str) -> set[str] | None:
    found = re.search(rf"{option} <([a-z_]+(?:\|[a-z_]+)+)>", command.help)
    return set(found[1].split("|")) if found else None


@each_page
def test_commands_and_options_on_a_page_exist(each: Page) -> None:
    for number, text in mentions(each):
        try:
            said = parsed(text)
        except AssertionError as error:
            pytest.fail(f"{each}:{number}: `{text}`: {error}")
        for option, value in said.options.items():
            choices = _choices(commands()[said.path], option)
            if choices and value and not value.isupper():
                assert set(value.split("|")) <= choices, f"{each}:{number}: {option} {value}"


def _beside(here: Page, number: int) -> Iterator[str]:
    """Yield the options that stand by themselves beside a command, or in rows of its section."""
    for line, span in here.spans:
        if span.startswith("--"):
            in_row = here.lines[line - 1].startswith("| `--")
            same_section = here.sections[line] == here.sections.get(number)
            if line == number or (in_row and same_section):
                yield span.split()[0]


def test_each_command_and_each_option_is_on_a_page_for_who_runs_it() -> None:
    found: dict[tuple[str, ...], dict[str, set[str]]] = {}
    for name in ("pysync/README.md", "pysync/students/README.md", "migrations/README.md"):
        here = page(name)
        for number, text in mentions(here):
            said = parsed(text)
            options = found.setdefault(said.path, {})
            for option, value in said.options.items():
                options.setdefault(option, set()).update((value or "").split("|"))
            for option in _beside(here, number):
                options.setdefault(option, set()).add("ANY")
    missing = []
    for path, command in commands().items():
        name = " ".join(path)
        if not command.is_group and path not in found:
            missing.append(name)
        said_here = found.get(path[:-1], {}) | found.get(path, {})
        for option in command.options.keys() - COMMON_OPTIONS:
            choices = _choices(command, option)
            if option not in said_here:
                if choices != {"table", "json"}:  # said once: what reads has it
                    missing.append(f"{name} {option}")
            elif not any(value.isupper() for value in said_here[option]):
                unsaid = (choices or set()) - said_here[option]
                missing += [f"{name} {option} {each}" for each in unsaid]
    assert sorted(missing) == []


@each_page
def test_links_lead_somewhere(each: Page) -> None:
    broken = []
    for number, target in each.links:
        if re.match(r"https?:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (each.path.parent / path).resolve() if path else each.path
        if not file.exists():
            broken.append(f"{each}:{number}: {target}")
        elif fragment and fragment not in page(str(file.relative_to(CHECKOUT))).anchors:
            broken.append(f"{each}:{number}: no heading in {path or 'this page'} for #{fragment}")
    assert broken == []


@each_page
def test_code_isnt_wrapped(each: Page) -> None:
    assert [f"{each}:{number}: {line}" for number, line in each.prose if line.count("`") % 2] == []


@each_page
def test_files_and_folders_named_on_a_page_exist(each: Page) -> None:
    missing = []
    for number, span in each.spans:
        if re.fullmatch(r"(\.ci|\.github|migrations|pysync|sql|tests)(/[\w.-]+)+/?", span):
            found = (CHECKOUT / span).exists()
        elif re.fullmatch(r"test_\w+\.py", span):
            found = any((CHECKOUT / "tests").rglob(span))
        else:
            continue
        if not found:
            missing.append(f"{each}:{number}: {span}")
    assert missing == []


@pytest.mark.parametrize("name", WITH_CONTENTS)
def test_a_page_begins_with_its_contents(name: str) -> None:
    sections = [text for level, text in page(name).headings if level == 2]
    listed = [
        found[1]
        for _, line in page(name).prose
        if (found := re.match(r"- \[([^\]]+)\]\(#[^)]*\)(: \[.*)?$", line))
    ]
    assert listed == sections


def test_the_front_page_takes_three_minutes() -> None:
    assert len(page("README.md").text.split()) <= FRONT_PAGE_WORDS


@each_page
def test_targets_of_make_exist(each: Page) -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = {span for _, span in each.spans} | {
        line for block in each.blocks("sh") for line in block.lines
    }
    used = {found[1] for text in named if (found := re.match(r"make ([a-z]+)", text))}
    assert used - targets == set()


@each_page
def test_blocks_of_code_say_what_they_are(each: Page) -> None:
    """Each language has a test: see here, and the samples in acceptance."""
    known = {"", "sh", "sql", "python", "ini", "yaml"}
    assert {block.language for block in each.all_blocks} <= known
    for block in each.blocks("sql"):
        assert block.not_run or re.match("-- (on the portal|in the course database)", block.text), (
            f"{each}:{block.line}: say in the first line where it is run, '-- on the portal' or "
            "'-- in the course database'; or before it why it isn't: '<!-- not run: reason -->'"
        )


def test_environment_variables_are_told_and_exist() -> None:
    told = {
        found
        for each in pages()
        for _, span in each.spans
        for found in re.findall(r"\bPYSYNC_[A-Z_]+", span)
    }
    sources = [
        *(CHECKOUT / "pysync").rglob("*.py"),
        *(CHECKOUT / "tests").rglob("*.py"),
    ]
    read = {
        found
        for file in sources
        for found in re.findall(r'"(PYSYNC_[A-Z]+[A-Z_]*[A-Z])"', file.read_text(encoding="utf-8"))
    }
    assert read - {"PYSYNC_TEST_MARK"} == told


def test_states_in_the_table_are_those_there_are() -> None:
    words = {Level.OK: "well", Level.WARNING: "warning", Level.CRITICAL: "critical"}
    rows = re.findall(
        r"^\| `([a-z-]+)` \| ([a-z]+) \|", page("pysync/README.md").text, re.MULTILINE
    )
    assert sorted(rows) == sorted((state.value, words[state.level]) for state in State)


def _literals() -> Iterator[str]:
    """Yield the text of each string in pysync's code, … for what is put in."""
    for file in (CHECKOUT / "pysync").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                parts = (
                    each.value if isinstance(each, ast.Constant) else "…" for each in node.values
                )
                yield "".join(map(str, parts))


def test_symptoms_in_the_runbook_are_said_by_pysync() -> None:
    by_postgresql = {"duplicate key", "already exists", "null value in column"}
    literals = [*_literals()]
    quoted = [
        piece.strip()
        for cell in page("pysync/README.md").rows("Runbook")
        for text in re.findall(r'"([^"]+)"', cell)
        for piece in re.split(r"…|\bN\b|(?<=:) ", text)
        if piece.strip()
    ]
    assert len(quoted) > 10
    said = {piece for piece in quoted if any(piece in literal for literal in literals)}
    assert set(quoted) - said - by_postgresql == set()


def test_metrics_and_alerts_named_exist() -> None:
    text = page("pysync/README.md").text
    produced = prometheus_text(Report(datetime.now(UTC), []))
    known = {*re.findall(r"^# TYPE (pysync_\w+)", produced, re.MULTILINE), "pysync_up"}
    named = {
        name
        for _, span in page("pysync/README.md").spans
        for name in re.findall(r"^pysync_[a-z_]+", span)
    }
    assert named - {"pysync_owner", "pysync_fan_out"} <= known
    rules = next((CHECKOUT / "pysync").rglob("alert-rules.yml")).read_text(encoding="utf-8")
    alerts = set(re.findall(r"alert (Pysync\w+)", text))
    assert alerts
    assert alerts <= set(re.findall(r"alert: (\w+)", rules))


def test_sqlstates_in_the_table_are_those_that_are_raised() -> None:
    raised = {
        state
        for pattern in ("sql/**/*.sql", "migrations/*/*.py", "pysync/**/*.py")
        for file in CHECKOUT.glob(pattern)
        for state in re.findall(r"'(PY\d{3})'", file.read_text(encoding="utf-8"))
    }
    listed = [cell.strip("`") for cell in page("sql/README.md").rows("Errors")]
    assert [each for each in listed if each.startswith("PY")] == sorted(raised)


def test_versions_agree() -> None:
    *others, newest = map(str, SUPPORTED_MAJORS)
    lists = re.compile(r"PostgreSQL \d\d(?:, \d\d)* (?:to|and|or) \d\d")
    # In one place: the others refer to it.
    assert [found for each in pages() for found in lists.findall(each.text)] == [
        f"PostgreSQL {', '.join(others)} and {newest}"
    ]
    for each in pages():
        for wheel in re.findall(r"pysync-([\d.]+)-py3", each.text):
            assert wheel == pysync.__version__


def test_the_changelog_begins_with_this_version() -> None:
    sections = [text for level, text in page("pysync/CHANGELOG.md").headings if level == 2]
    assert sections[0].split()[0] == pysync.__version__
