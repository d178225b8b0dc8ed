"""Write the registrations to the portal, a transaction per day, as an application would."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import groupby
from typing import Final, LiteralString

from pysync.db.connections import Connection, connect
from pysync.db.errors import translated
from pysync.demo.oulad import Day, Registration, Student
from pysync.demo.site import Site
from pysync.errors import DemoError
from pysync.replication import marks
from pysync.types import Progress

CATCH_UP_TIMEOUT_SECONDS: Final = 60

_INSERT_USERS: Final = """
    insert into public.auth_user (username, password, first_name, last_name, email, date_joined)
    select username, '!', 'Student', number, username || '@example.org', %s
      from unnest(%s::text[], %s::text[]) as newcomer (username, number)
"""  # '!' is Django's password that nobody has

_INSERT_PROFILES: Final = """
    insert into public.auth_userprofile (
        user_id, name, gender, location, level_of_education, year_of_birth, meta)
    select id, first_name || ' ' || last_name, gender, location, level_of_education, year_of_birth,
           meta
      from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::integer[], %s::text[])
           as newcomer (username, gender, location, level_of_education, year_of_birth, meta)
      join public.auth_user using (username)
"""

_INSERT_ENROLLMENTS: Final = """
    insert into public.student_courseenrollment (user_id, course_id, created)
    select id, course_id, %s
      from unnest(%s::text[], %s::text[]) as registration (username, course_id)
      join public.auth_user using (username)
"""

_DELETE_ENROLLMENTS: Final = """
    delete from public.student_courseenrollment as enrollment
     using unnest(%s::text[], %s::text[]) as unregistration (username, course_id)
      join public.auth_user using (username)
     where enrollment.user_id = auth_user.id
       and enrollment.course_id = unregistration.course_id
"""


@dataclass
class Counts:
    """What was written."""

    students: int = 0
    registrations: int = 0
    unregistrations: int = 0


def write_days(site: Site, days: Iterable[Day], progress: Progress) -> Counts:
    """Write days to the portal, in the order given, while replication runs.

    :raises DemoError: if the portal took fewer rows than it was given.
    """
    counts = Counts()
    with closing(connect(site.application)) as portal:
        # The tables grow a thousandfold meanwhile: a plan made for empty ones would be kept.
        portal.prepare_threshold = None
        for year, days_of_year in groupby(days, key=lambda day: day.date.year):
            of_year = list(days_of_year)
            progress.step(f"replaying {year}", sum(day.changes for day in of_year))
            done = 0
            for day in of_year:
                with translated("portal"), portal.transaction():
                    _write(portal, day)
                done += day.changes
                progress.advance(done)
                counts.students += len(day.newcomers)
                counts.registrations += len(day.registrations)
                counts.unregistrations += len(day.unregistrations)
    return counts


def catch_up(site: Site, progress: Progress) -> None:
    """Wait until every course has everything that the portal has committed.

    :raises WaitTimeoutError: if one hasn't within 60 s.
    """
    progress.step("waiting for the courses", len(site.databases))
    with closing(connect(site.portal)) as portal:
        sent = {course_id: marks.mark(portal, course_id) for course_id in site.databases}
    for number, (course_id, mark) in enumerate(sent.items(), 1):
        with closing(connect(site.databases[course_id])) as database:
            marks.wait_for(database, course_id, mark, CATCH_UP_TIMEOUT_SECONDS)
        progress.advance(number)


def _write(portal: Connection, day: Day) -> None:
    """Write a day; who unregisters on the day of the registration registers first."""
    moment = datetime.combine(day.date, time(), UTC)
    _insert_students(portal, moment, day.newcomers)
    _execute(portal, day.date, _INSERT_ENROLLMENTS, moment, *_pairs(day.registrations))
    _execute(portal, day.date, _DELETE_ENROLLMENTS, *_pairs(day.unregistrations))


def _insert_students(portal: Connection, moment: datetime, newcomers: list[Student]) -> None:
    usernames = [student.username for student in newcomers]
    numbers = [str(student.number) for student in newcomers]
    _execute(portal, moment.date(), _INSERT_USERS, moment, usernames, numbers)
    _execute(
        portal,
        moment.date(),
        _INSERT_PROFILES,
        usernames,
        [student.gender for student in newcomers],
        [student.location for student in newcomers],
        [student.level_of_education for student in newcomers],
        [student.year_of_birth for student in newcomers],
        [student.meta for student in newcomers],
    )


def _pairs(registrations: list[Registration]) -> tuple[list[str], list[str]]:
    return (
        [each.student.username for each in registrations],
        [str(each.course_id) for each in registrations],
    )


def _execute(
    portal: Connection,
    day: date,
    statement: LiteralString,
    *arguments: datetime | list[str] | list[int],
) -> None:
    """Run a statement on lists of equal length, and insist on a row for each of their entries."""
    wanted = len(next(each for each in arguments if isinstance(each, list)))
    if not wanted:
        return
    written = portal.execute(statement, arguments).rowcount
    if written != wanted:
        raise DemoError(f"portal wrote {written} of {wanted} rows of {day}: data don't fit")
