"""Commands that work on many courses: what they are given in a file, and what they print."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from psycopg.conninfo import make_conninfo

from pysync.cli.comparison import way_back
from pysync.cli.output import Format, counted, print_json, say, say_aside, steps
from pysync.cli.rows import opened
from pysync.db.connections import has_secrets, parse
from pysync.errors import PysyncError
from pysync.lifecycle import many as service
from pysync.lifecycle.courses import Added
from pysync.lifecycle.many import Wanted
from pysync.texts import Text, quoted
from pysync.types import CourseId, course_id

R = TypeVar("R")

_REQUIRED: Final = ("course_id", "conninfo")
_COLUMNS: Final = (*_REQUIRED, "portal_conninfo")

SHOWN: Final = 20
"""Lines of a file of which it is said what is wrong with them."""


class Told:
    """What is printed of courses: a line each as it comes, or JSON in the end."""

    def __init__(self, format: Format) -> None:
        self._format = format
        self._documents: list[dict[str, Any]] = []
        self._failed: list[CourseId] = []

    def tell(
        self, course: CourseId, answer: R | PysyncError, line: Callable[[R], str], **more: Any
    ) -> None:
        """Print what became of a course.

        :param line: what people are told of an answer.
        :param more: what programs are.
        """
        if isinstance(answer, PysyncError):
            self._failed.append(course)
            say_aside(Text.plain(f"{course}: ") + answer.text, style="red")
        elif self._format is Format.TABLE:
            say(line(answer))
        error = str(answer) if isinstance(answer, PysyncError) else None
        self._documents.append({"course_id": course, "error": error, **more})

    def end(self, failure: str, **document: Any) -> None:
        """Print the document, if that is wanted, and sum up the errors.

        :param failure: what happened to those that failed.
        :raises PysyncError: if there are any.
        """
        if self._format is Format.JSON:
            ordered = sorted(self._documents, key=lambda each: each["course_id"])
            print_json({**document, "courses": ordered})
        if self._failed:
            named = "', '".join(sorted(self._failed))
            raise PysyncError(
                f"{len(self._failed)} of {counted(len(self._documents), 'course')} {failure}: "
                f"'{named}'",
                "mend what is said of each above and run the command again: it goes on with those",
            )


def add(
    portal: str,
    wanted: Sequence[Wanted],
    format: Format,
    *,
    jobs: int,
    keep_owner: bool,
    durable: bool,
    relay: CourseId | None,
    dry_run: bool,
) -> None:
    """Add courses, and print what became of each.

    :raises PysyncError: if one wasn't added.
    """
    told, ways = Told(format), set[str]()

    def heard(course: CourseId, answer: Added | PysyncError) -> None:
        more: dict[str, int | None] = {"users": None, "already_there": None}
        if isinstance(answer, Added):
            more = {"users": answer.users, "already_there": answer.already_there}
            if (way := answer.course.portal_conninfo) not in ways:
                ways.add(way)
                say_aside(way_back(way))
        told.tell(course, answer, lambda added: _line(course, added, dry_run=dry_run), **more)

    with steps() as progress:
        service.add(
            portal,
            wanted,
            progress,
            heard,
            jobs=jobs,
            keep_owner=keep_owner,
            durable=durable,
            relay=relay,
            dry_run=dry_run,
        )
    if dry_run and format is Format.TABLE:
        say("dry run: nothing was changed")
    told.end("can't be added" if dry_run else "couldn't be added", dry_run=dry_run)


def _line(course: CourseId, added: Added, *, dry_run: bool) -> str:
    if dry_run:
        would = "is there already" if added.already_there else "would be added"
        return f"course '{course}' {would}: {counted(added.users, 'user')}"
    done = "is streaming already" if added.already_there else "added"
    return f"course '{course}' {done}: {added.users:,} users there"


def read_courses(file: str, portal_for_course: str | None) -> list[Wanted]:
    """Read the courses that are to be added from a CSV file.

    :param portal_for_course: how their servers reach the portal, where the file doesn't say; with
        a password, which goes with what it says, too.
    :raises PysyncError: if a line can't be used; each that can't is printed before.
    """
    found: list[Wanted] = []
    seen: dict[str, int] = {}
    refused = 0
    for line, row in _rows(file):
        try:
            found.append(_wanted(line, row, portal_for_course, seen))
        except PysyncError as error:
            refused += 1
            if refused <= SHOWN:
                say_aside(Text.plain(f"{file}:{line}: ") + error.text)
    if refused or not found:
        what = f"{counted(refused, 'line')} can't be used" if refused else "it has no courses"
        raise PysyncError(
            f"file '{file}' refused: {what}; nothing was changed",
            "mend it and run the command again",
        )
    return found


def _rows(file: str) -> Iterator[tuple[int, list[str] | dict[str, str]]]:
    """Return a file's rows with their lines' numbers: by column, or as lists if they don't fit."""
    with opened(file) as stream:
        reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
        try:
            header = next(reader, [])
            if not set(_REQUIRED) <= set(header) <= set(_COLUMNS) or len(set(header)) < len(header):
                raise PysyncError(
                    f"file '{file}' refused: line 1 is {quoted(','.join(header))}, not the names "
                    "of its columns",
                    f"begin it with {','.join(_REQUIRED)} and, where you need it, {_COLUMNS[-1]}",
                )
            for cells in reader:
                if cells:
                    fits = len(cells) == len(header)
                    yield reader.line_num, dict(zip(header, cells, strict=True)) if fits else cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise PysyncError(
                f"file '{file}' refused: line {reader.line_num + 1} can't be read: {error}",
                "save it as CSV in UTF-8",
            ) from None


def _wanted(
    line: int,
    row: list[str] | dict[str, str],
    portal_for_course: str | None,
    seen: dict[str, int],
) -> Wanted:
    if isinstance(row, list):
        raise PysyncError(f"it has {counted(len(row), 'value')}, not one for each column")
    conninfo, way = row["conninfo"], row.get("portal_conninfo") or None
    if not conninfo.strip():
        raise PysyncError("it has no conninfo", "say how pysync reaches the course database")
    if has_secrets(conninfo) or (way and has_secrets(way)):
        raise PysyncError(
            "it has a password",
            "leave it out: PGPASSWORD, PGPASSFILE or ~/.pgpass have those of course databases, "
            "--password-file the one for the portal",
        )
    password = parse(portal_for_course or "").get("password")
    if way and password:
        way = make_conninfo(way, password=password)
    wanted = Wanted(course_id(row["course_id"]), conninfo, way or portal_for_course)
    for value in (wanted.course_id, wanted.conninfo):
        if (first := seen.setdefault(value, line)) != line:
            raise PysyncError(f"'{value}' is in line {first} already")
    return wanted
