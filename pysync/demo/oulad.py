"""The Open University's registrations: read, mapped to the portal's columns, put in date order.

``oulad.csv.gz`` holds what the demo needs of the Open University Learning Analytics dataset; see
``ATTRIBUTION.md`` beside it for where it comes from, its licence and how its form was changed.
"""

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from pysync.types import CourseId

FILE: Final = Path(__file__).parent / "oulad.csv.gz"

CREDIT: Final = (
    'Kuzilek J., Hlosta M., Zdrahal Z., "Open University Learning Analytics\n'
    'dataset", Scientific Data 4:170171 (2017), CC-BY 4.0; form changed'
)
"""The attribution that the licence asks for, in two lines."""

_STARTS: Final = {"B": (2, 1), "J": (10, 1)}
"""Month and day on which presentations begin, by their letter."""

_LEVELS_OF_EDUCATION: Final = {
    "Post Graduate Qualification": "m",
    "HE Qualification": "b",
    "A Level or Equivalent": "hs",
    "Lower Than A Level": "jhs",
    "No Formal quals": "none",
}
"""The nearest of the profile's codes; the original is kept in ``meta``."""

_AGES: Final = {"0-35": 27, "35-55": 45, "55<=": 60}
"""An age amid each band: a year of birth is no more exact than that. ``meta`` keeps the band."""


@dataclass(frozen=True, slots=True)
class Student:
    """A student in the portal's columns."""

    number: int
    gender: str
    location: str
    level_of_education: str
    year_of_birth: int
    meta: str

    @property
    def username(self) -> str:
        """Return the username, such as ``student-11391``."""
        return f"student-{self.number}"


@dataclass(frozen=True, slots=True)
class Registration:
    """A student's time in a course; ``unregistered`` is ``None`` for those who stayed."""

    student: Student
    course_id: CourseId
    registered: date
    unregistered: date | None


@dataclass(slots=True)
class Day:
    """What happened on a day, in this order."""

    date: date
    newcomers: list[Student] = field(default_factory=list)
    registrations: list[Registration] = field(default_factory=list)
    unregistrations: list[Registration] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """Return how many registrations and unregistrations there were."""
        return len(self.registrations) + len(self.unregistrations)


def read(file: Path | None = None) -> list[Registration]:
    """Read all registrations.

    :param file: :data:`FILE` by default.
    :returns: registrations by student number and course; those of a student share one object.
    """
    with gzip.open(file or FILE, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    students = {
        # Sorted by presentation: a student is described as of the latest one.
        row["id_student"]: _student(row)
        for row in sorted(rows, key=_presentation)
    }
    return [_registration(row, students[row["id_student"]]) for row in rows]


def course_ids(registrations: Iterable[Registration]) -> list[CourseId]:
    """Return the ids of all courses, such as ``AAA/2013J``, sorted."""
    return sorted({each.course_id for each in registrations})


def days(registrations: Iterable[Registration]) -> Iterator[Day]:
    """Return the days on which something happened, in order.

    A student is a newcomer on the day of the first registration.
    """
    by_date: dict[date, Day] = {}
    for each in registrations:
        by_date.setdefault(each.registered, Day(each.registered)).registrations.append(each)
        if each.unregistered is not None:
            by_date.setdefault(each.unregistered, Day(each.unregistered)).unregistrations.append(
                each
            )
    seen: set[int] = set()
    for _, day in sorted(by_date.items()):
        newcomers = {each.student.number: each.student for each in day.registrations}
        day.newcomers = [newcomers[number] for number in newcomers.keys() - seen]
        day.newcomers.sort(key=lambda student: student.number)
        seen |= newcomers.keys()
        yield day


def _presentation(row: dict[str, str]) -> str:
    return row["course_id"].partition("/")[2]


def _student(row: dict[str, str]) -> Student:
    return Student(
        number=int(row["id_student"]),
        gender=row["gender"].lower(),
        location=row["region"],
        level_of_education=_LEVELS_OF_EDUCATION[row["highest_education"]],
        year_of_birth=int(_presentation(row)[:4]) - _AGES[row["age_band"]],
        meta=json.dumps(
            {
                "age_band": row["age_band"],
                "disability": row["disability"] == "Y",
                "highest_education": row["highest_education"],
                "imd_band": row["imd_band"] or None,
            }
        ),
    )


def _registration(row: dict[str, str], student: Student) -> Registration:
    presentation = _presentation(row)
    start = date(int(presentation[:4]), *_STARTS[presentation[4]])
    unregistered_day = int(row["date_unregistration"]) if row["date_unregistration"] else None
    if row["date_registration"]:
        registered_day = int(row["date_registration"])
    else:
        # 45 rows don't say when: at the start then, or just before an earlier unregistration.
        registered_day = min(0, unregistered_day or 0)
    return Registration(
        student,
        CourseId(row["course_id"]),
        start + timedelta(registered_day),
        None if unregistered_day is None else start + timedelta(unregistered_day),
    )
