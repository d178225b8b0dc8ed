"""Write the registrations to the portal, a transaction per day, as an application would."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time
from itertools import groupby
from typing import Any, Final

from psycopg.types.json import Jsonb

from pysync.db.connections import Connection, connect
from pysync.db.errors import translated
from pysync.db.queries import load
from pysync.demo.oulad import Day, Registration
from pysync.demo.site import Site
from pysync.errors import DemoError
from pysync.replication import marks
from pysync.types import Progress

CATCH_UP_TIMEOUT_SECONDS: Final = 60

QUERIES: Final = load(__file__)


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
    """Write a day; who unregisters on the day of the registration registers first.

    :raises DemoError: if a statement doesn't write a row for each that it was given.
    """
    newcomers = [{**asdict(each), "username": each.username} for each in day.newcomers]
    for query, rows in (
        ("insert_users", newcomers),
        ("insert_profiles", newcomers),
        ("insert_enrollments", _rows(day.registrations)),
        ("delete_enrollments", _rows(day.unregistrations)),
    ):
        if not rows:
            continue
        moment = datetime.combine(day.date, time(), UTC)
        written = portal.execute(QUERIES[query], {"moment": moment, "rows": Jsonb(rows)}).rowcount
        if written != len(rows):
            raise DemoError(
                f"portal wrote {written} of {len(rows)} rows of {day.date}: data don't fit"
            )


def _rows(registrations: list[Registration]) -> list[dict[str, Any]]:
    return [
        {"username": each.student.username, "course_id": each.course_id} for each in registrations
    ]
