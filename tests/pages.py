"""The pages that people read, taken apart: headings, links, code in text and in blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import pysync

CHECKOUT = Path(pysync.__file__).parent.parent
FOLDERS = (".github", "sql", "migrations", "pysync", "tests")

_FENCE = re.compile(r"\s*```(.*)")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass
class Block:
    """A block of code.

    :param line: where its text begins, from 1.
    :param not_run: why it can't be run, if somebody said so.
    """

    language: str
    line: int
    not_run: str | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Page:
    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(CHECKOUT))

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def _parts(self) -> tuple[list[tuple[int, str]], list[Block]]:
        prose: list[tuple[int, str]] = []
        blocks: list[Block] = []
        inside: Block | None = None
        reason: str | None = None
        indent = ""
        for number, line in enumerate(self.lines, 1):
            fence = _FENCE.match(line)
            if fence and inside is None:
                indent = line[: len(line) - len(line.lstrip())]
                inside = Block(fence[1].strip(), number + 1, reason)
                blocks.append(inside)
            elif fence:
                inside = None
            elif inside is not None:
                inside.lines.append(line.removeprefix(indent))
            else:
                prose.append((number, line))
                if line.strip():
                    found = _NOT_RUN.fullmatch(line.strip())
                    reason = found[1] if found else None
            if fence:
                reason = None
        assert inside is None, f"{self}: a block of code isn't closed"
        return prose, blocks

    def blocks(self, *languages: str) -> list[Block]:
        return [each for each in self._parts[1] if each.language in languages]

    @property
    def all_blocks(self) -> list[Block]:
        return self._parts[1]

    @cached_property
    def spans(self) -> list[tuple[int, str]]:
        """Code in the text, with its line; one that is wrapped isn't found, which a test refuses."""
        return [
            (number, span.replace("\\|", "|"))
            for number, line in self._parts[0]
            for span in _SPAN.findall(line)
        ]

    @property
    def prose(self) -> list[tuple[int, str]]:
        return self._parts[0]

    @cached_property
    def headings(self) -> list[tuple[int, str]]:
        """Level and text."""
        return [
            (len(found[1]), found[2])
            for _, line in self._parts[0]
            if (found := re.match(r"(#+) (.+)", line))
        ]

    @cached_property
    def sections(self) -> dict[int, str]:
        """The heading that each line of the text is under."""
        found, heading = {}, ""
        for number, line in self.prose:
            if line.startswith("#"):
                heading = line.lstrip("# ")
            found[number] = heading
        return found

    def rows(self, section: str) -> list[str]:
        """Return the first cells of a section's tables, without their headers."""
        lines = [line for number, line in self.prose if self.sections[number] == section]
        cells = [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("|")]
        return [
            cell
            for cell, after in zip(cells, [*cells[1:], ""], strict=True)
            if not (cell.startswith("---") or after.startswith("---"))
        ]

    @cached_property
    def anchors(self) -> set[str]:
        return {anchor(text) for _, text in self.headings}

    @cached_property
    def links(self) -> list[tuple[int, str]]:
        return [
            (number, target)
            for number, line in self._parts[0]
            for target in _LINK.findall(re.sub(_SPAN, "", line) if "`[" in line else line)
        ]


def anchor(heading: str) -> str:
    """Return a heading's anchor, as GitHub and others make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def pages() -> list[Page]:
    return [Page(path) for path in _paths()]


def page(name: str) -> Page:
    (found,) = (each for each in pages() if str(each) == name)
    return found


def _paths() -> Iterator[Path]:
    yield from sorted(CHECKOUT.glob("*.md"))
    for folder in FOLDERS:
        yield from sorted((CHECKOUT / folder).rglob("*.md"))
