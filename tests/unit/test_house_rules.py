"""What holds for every module of the package, so that the next one can't slip in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pysync

PACKAGE = Path(pysync.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

STATEMENT = re.compile(
    r"\s*(select|with|insert into|update|delete from|alter|create|drop|do|grant|lock|call)\b"
)

LONG_FOR_A_REASON = {
    "cli/course.py": "options, and what is told: a command after the other",
    "demo/servers.py": "finding, copying and running a server: one subject, short functions",
    "diagnosis/checks.py": "a list of rules: to be read beside each other",
    "lifecycle/handover.py": "one protocol: snapshot, merge, slot and position go together",
    "migrate/bringing.py": "what is made for a column, and taken back, beside each other",
    "migrate/publications.py": "one protocol of withdrawing, extending and filling",
    "models/portal.py": "declarations",
    "lifecycle/courses.py": "adding and removing are each other's reverse",
    "replication/registry.py": "each change of the registry beside the others",
    "replication/merge.py": "one algorithm: staging, giving way and applying share their tables",
}
"""Modules of more than 250 lines, and why they aren't two."""


def name(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


def long_statements(module: Path) -> Iterator[str]:
    """Return where SQL stands that is longer than two lines."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    prose = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in prose:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(
                str(part.value) for part in node.values if isinstance(part, ast.Constant)
            )
        else:
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > 2 and STATEMENT.match(text) and " " in text.strip():
            yield f"{name(module)}:{node.lineno}: {' '.join(text.split())[:60]}…"


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_long_sql_lies_in_files(module: Path) -> None:
    assert [*long_statements(module)] == [], "move it to the package's queries.sql, with a name"


def test_a_module_can_be_read_in_one_sitting() -> None:
    lines = {name(each): len(each.read_text(encoding="utf-8").splitlines()) for each in MODULES}
    assert {each: count for each, count in lines.items() if count > 500} == {}
    without = {each: n for each, n in lines.items() if n > 250 and each not in LONG_FOR_A_REASON}
    assert without == {}, "split it, or say why not in LONG_FOR_A_REASON"
    stale = [each for each in LONG_FOR_A_REASON if lines.get(each, 0) <= 250]
    assert stale == [], "these are shorter now: take them off the list"


def test_the_top_level_is_what_it_is_to_be() -> None:
    root = PACKAGE.parent
    built = {"dist", "build", "__pycache__", *(each.name for each in root.glob("*.egg-info"))}
    found = {each.name for each in root.iterdir() if not each.name.startswith(".")} - built
    assert found == {
        "Makefile",
        "README.md",
        "migrations",
        "pyproject.toml",
        "pysync",
        "sql",
        "tests",
    }
