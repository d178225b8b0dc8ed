"""Queries in files: each has a name of its own, says what it is for, and is a statement."""

from __future__ import annotations

import re
from pathlib import Path

import pglast
import pytest

import pysync
from pysync.db.queries import load

FILES = sorted(Path(pysync.__file__).parent.rglob("queries.sql"))


def test_there_are_queries() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_each_query_has_a_name_a_comment_and_one_statement(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    names = re.findall(r"^-- name: (\w+)$", text, re.MULTILINE)
    assert len(names) == len(set(names)), f"two queries of one name in {file}"
    silent = re.findall(r"^-- name: (\w+)\n(?!-- \S)", text, re.MULTILINE)
    assert silent == [], f"say in a comment below its name what each is for: {silent} in {file}"
    queries = load(str(file.with_name("any.py")))
    assert [*queries] == names
    for name, query in queries.items():
        plain = re.sub(r"%\(\w+\)s|%s", "null", query.as_string(None).replace("%%", "%"))
        plain = re.sub(r"\{\w*\}", "place", plain)
        assert len(pglast.split(plain, only_slices=True)) == 1, f"{name} in {file}"
