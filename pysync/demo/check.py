"""Look at what arrived in the courses: every row, and how soon."""

import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import sql

from pysync.db.connections import Connection, connect
from pysync.demo.oulad import Registration
from pysync.demo.site import Site
from pysync.errors import DemoError
from pysync.models.portal import PortalBase
from pysync.models.replicated import REPLICATED_TABLES
from pysync.types import CourseId, Progress

SINGLE_CHANGES: Final = 200
VISIBLE_TIMEOUT_SECONDS: Final = 10

_ON_PORTAL: Final[dict[str, LiteralString]] = {
    "auth_user": "where username = any(%(members)s)",
    "auth_userprofile": "where user_id in"
    " (select id from public.auth_user where username = any(%(members)s))",
    "student_courseenrollment": "where course_id = %(course_id)s",
}
"""What of the portal's tables a course must hold, by plain SQL and not by what pysync thinks.

Members are all who were ever enrolled: a student's columns don't change in the replay, so the copy
of one who has left, frozen as it was then, must still equal the portal's row.
"""


@dataclass(frozen=True)
class Comparison:
    """What a course's database and the portal say of the course."""

    course_id: CourseId
    enrolled_on_portal: int
    enrolled_in_course: int
    users_in_course: int
    rows_that_differ: int


def compare(
    site: Site, registrations: Iterable[Registration], progress: Progress
) -> list[Comparison]:
    """Compare every course's database with the portal, row by row, all replicated columns.

    A course must hold exactly the users that ever registered, their profiles, and the enrollments
    of those who haven't unregistered; whoever is there without an enrollment is a frozen copy.

    :param registrations: who registered where, as replayed.
    """
    members: dict[CourseId, list[str]] = {course_id: [] for course_id in site.databases}
    for each in registrations:
        members[each.course_id].append(each.student.username)
    progress.step("comparing portal and courses", len(members))
    comparisons = []
    with closing(connect(site.portal)) as portal:
        for number, (course_id, usernames) in enumerate(members.items(), 1):
            with closing(connect(site.databases[course_id])) as database:
                comparisons.append(compare_course(portal, database, course_id, usernames))
            progress.advance(number)
    return comparisons


def compare_course(
    portal: Connection, database: Connection, course_id: CourseId, members: list[str]
) -> Comparison:
    """Compare one course's database with the portal.

    :param members: the usernames of all who were ever enrolled, and haven't changed since.
    """
    expected = {
        table: _rows(portal, "public", table, where, members=members, course_id=course_id)
        for table, where in _ON_PORTAL.items()
    }
    found = {table: _rows(database, "course", table) for table in REPLICATED_TABLES}
    return Comparison(
        course_id,
        enrolled_on_portal=len(expected["student_courseenrollment"]),
        enrolled_in_course=len(found["student_courseenrollment"]),
        users_in_course=len(found["auth_user"]),
        rows_that_differ=sum(
            expected[table].get(key) != found[table].get(key)
            for table in REPLICATED_TABLES
            for key in expected[table].keys() | found[table].keys()
        ),
    )


def _rows(
    connection: Connection, schema: str, table: str, where: LiteralString = "", **arguments: object
) -> dict[int, str]:
    """Return rows by id, as PostgreSQL writes them: all columns of the portal's table."""
    columns = PortalBase.metadata.tables[f"public.{table}"].columns.keys()
    query = sql.SQL("select id, row({})::text from {} {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(schema, table),
        sql.SQL(where),
    )
    return dict(connection.execute(query, arguments).fetchall())


def latencies(site: Site, progress: Progress) -> list[float]:
    """Measure commit-to-visible: log students in on the portal, one by one, and watch the course.

    :returns: for each, the seconds from the return of its commit to when a query on an open
        connection to the course database sees it.
    :raises DemoError: if one isn't visible within 10 s.
    """
    progress.step("measuring commit to visible", SINGLE_CHANGES)
    with ExitStack() as connections:
        portal = connections.enter_context(closing(connect(site.application)))
        courses = {
            course_id: connections.enter_context(closing(connect(conninfo)))
            for course_id, conninfo in site.databases.items()
        }
        enrolled = portal.execute(
            "select user_id, course_id from public.student_courseenrollment order by id"
        ).fetchall()
        found = []
        for number in range(SINGLE_CHANGES):
            # Spread evenly over all enrollments.
            user_id, course_id = enrolled[number * len(enrolled) // SINGLE_CHANGES]
            found.append(_latency(portal, courses[course_id], user_id))
            progress.advance(number + 1)
        return found


def _latency(portal: Connection, course: Connection, user_id: int) -> float:
    row = portal.execute(
        "update public.auth_user set last_login = clock_timestamp() where id = %s"
        " returning last_login",
        (user_id,),
    ).fetchone()
    committed = time.perf_counter()
    while True:
        visible = course.execute(
            "select last_login from course.auth_user where id = %s", (user_id,)
        ).fetchone()
        seconds = time.perf_counter() - committed
        if visible == row:
            return seconds
        if seconds > VISIBLE_TIMEOUT_SECONDS:
            raise DemoError(
                f"demo change of user {user_id} isn't visible after {VISIBLE_TIMEOUT_SECONDS} s"
            )
