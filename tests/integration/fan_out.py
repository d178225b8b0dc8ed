"""What the tests of the fan-out share: an application, and what the fan-out tables must hold."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from pysync.migrate import columns, plan, wanted
from pysync.migrate.carried import QUERIES
from tests.support import ENROLLMENT_COLUMNS, PROFILE_COLUMNS, USER_COLUMNS, Rows, Silent, Site

TABLES = ("auth_user", "auth_userprofile", "student_courseenrollment")

AWKWARD = ("order", "MixedCase", "user_ids", "value", "copy", "before", "excluded", "members")
"""Names of columns that need quotes, or are those of variables and rows in our functions."""

_numbers = itertools.count(1)


@dataclass
class App:
    """An application: a role with rights on the portal's own three tables, and nothing else."""

    site: Site
    role: str
    connection: psycopg.Connection[Any]
    _opened: list[psycopg.Connection[Any]] = field(default_factory=list)

    def connect(self) -> psycopg.Connection[Any]:
        """Open another autocommit connection as the same role."""
        connection = self.site.connect(user=self.role)
        self._opened.append(connection)
        return connection

    def execute(self, query: str, *arguments: Any) -> Rows:
        """Run a statement in a transaction of its own; returns its rows."""
        cursor = self.connection.execute(query, arguments or None)
        return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *arguments: Any) -> Any:
        """Return the only value of a query."""
        return self.execute(query, *arguments)[0][0]

    def user(self, username: str, **columns: Any) -> int:
        """Insert a user and return its id."""
        values = {"username": username, "password": "secret", "email": f"{username}@example.org"}
        return self._insert("auth_user", values | columns)

    def profile(self, user_id: int, **columns: Any) -> int:
        """Insert a profile and return its id."""
        return self._insert("auth_userprofile", {"user_id": user_id, **columns})

    def enroll(self, user_id: int, *course_ids: str) -> None:
        """Enroll a user in courses, one statement for all of them."""
        self.execute(
            "insert into student_courseenrollment (user_id, course_id)"
            " select %s, unnest(%s::text[])",
            user_id,
            list(course_ids),
        )

    def unenroll(self, user_id: int, *course_ids: str) -> None:
        """Unenroll a user from courses, one statement for all of them."""
        self.execute(
            "delete from student_courseenrollment where user_id = %s and course_id = any(%s)",
            user_id,
            list(course_ids),
        )

    def close(self) -> None:
        self.close_others()
        self.connection.close()

    def close_others(self) -> None:
        """Close what :meth:`connect` opened, and forget what was set in our own session."""
        for connection in self._opened:
            connection.close()
        self._opened.clear()
        self.connection.rollback()
        self.connection.execute("reset all")

    def _insert(self, table: str, values: dict[str, Any]) -> int:
        statement = sql.SQL(
            "insert into public.{} ({}) overriding system value values ({})"
        ).format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        )
        cursor = self.connection.execute(
            statement + sql.SQL(" returning id"), list(values.values())
        )
        return int(cursor.fetchall()[0][0])


@contextmanager
def role(
    site: Site, *grants: str, conninfo: str | None = None, attributes: str = "login"
) -> Iterator[str]:
    """Create a role with a name of its own and grants in a database, the portal by default.

    It is dropped afterwards: roles are a cluster's, and outlive a test's databases.
    """
    name = f"pysync_test_{next(_numbers)}"
    identifier = sql.Identifier(name)
    with psycopg.connect(conninfo or site.portal, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} " + attributes).format(identifier))
        try:
            for grant in grants:
                connection.execute(sql.SQL("grant " + grant + " to {}").format(identifier))
            yield name
        finally:
            connection.execute("set lock_timeout = '5s'")
            connection.execute(sql.SQL("drop owned by {} cascade").format(identifier))
            connection.execute(sql.SQL("drop role {}").format(identifier))


@contextmanager
def application(site: Site) -> Iterator[App]:
    """Connect as an application."""
    with role(
        site,
        f"select, insert, update, delete, truncate on {', '.join(TABLES)}",
        "truncate on all tables in schema public",  # TRUNCATE of users cascades to them
    ) as name:
        app = App(site, name, site.connect(user=name))
        try:
            yield app
        finally:
            app.close()


def carry(
    site: Site, table: str, column: str, scrub: str | None = None, *, takes_over: bool = False
) -> None:
    """Have a column of the portal's own carried; its courses, if any, have databases."""
    given = None if scrub is None else lambda *_: scrub
    asked = partial(wanted.asked, table, [column], scrub=given, takes_over=takes_over)
    for _ in columns.add(site.portal, asked, Silent()):
        pass


def carry_awkward(site: Site) -> None:
    """Have columns of the portal's own carried, of all three tables: each row has other values."""
    with plan.exclusive(site.portal) as portal:
        for table, name in itertools.product(TABLES, AWKWARD):
            add = "alter table {} add column {} varchar(40) default md5(random()::text)"
            places = sql.Identifier("public", table), sql.Identifier(name)
            portal.execute(sql.SQL(add).format(*places))
            (column,) = wanted.asked(table, [name], portal, scrub=None, takes_over=False)
            portal.execute(QUERIES["register_column"], asdict(column))
        for _ in columns.carry(site.portal, portal, Silent()):
            pass


def _own(site: Site, table: str) -> str:
    """Return the columns of a portal's own that are carried, to follow others."""
    query = "select column_name from pysync.carried_column where table_name = %s order by 1"
    names = [sql.Identifier(name).as_string() for (name,) in site.execute(query, table)]
    return "".join(f", r.{name}" for name in names)


def differences(site: Site, counts: str = "true") -> Rows:
    """Return how the fan-out differs from what plain SQL on the portal's own tables says.

    Live rows of every course are compared with all their columns; nothing is the right answer.

    :param counts: a condition: which enrollments, ``member``, count.
    """
    member = (
        "public.student_courseenrollment as member"
        " join pysync.course as registered on registered.course_id = member.course_id"
        f" and registered.fans_out and ({counts})"
    )
    live = " join course.student_courseenrollment as live using (user_id, course_id)"
    user, profile, enrollment = (
        ", ".join(f"r.{column.strip()}" for column in listed.split(",")) + _own(site, table)
        for table, listed in zip(
            TABLES, (USER_COLUMNS, PROFILE_COLUMNS, ENROLLMENT_COLUMNS), strict=True
        )
    )
    pairs = {
        "user": (
            f"select member.course_id, {user} from {member}"
            " join public.auth_user as r on r.id = member.user_id",
            f"select r.course_id, {user} from course.auth_user as r where r.live",
        ),
        "profile": (
            f"select member.course_id, {profile} from {member}"
            " join public.auth_userprofile as r on r.user_id = member.user_id",
            f"select course_id, {profile} from course.auth_userprofile as r{live}".replace(
                "r.user_id", "user_id"
            ),
        ),
        "enrollment": (
            f"select {enrollment.replace('r.', 'member.')} from {member}",
            f"select {enrollment} from course.student_courseenrollment as r",
        ),
    }
    found = [
        f"select 'missing {name}', to_jsonb(d) from ({expected} except all {actual}) as d"
        f" union all select 'wrong {name}', to_jsonb(d) from ({actual} except all {expected}) as d"
        for name, (expected, actual) in pairs.items()
    ]
    found += [
        "select 'profile without user', to_jsonb(profile) from course.auth_userprofile as profile"
        " where not exists (select from course.auth_user as copy"
        " where copy.id = profile.user_id and copy.course_id = profile.course_id)"
    ]
    found += [
        f"select 'row of an unknown course', to_jsonb(copy) from course.{table} as copy"
        " where course_id not in (select course_id from pysync.course)"
        for table in TABLES
    ]
    # Who has just filled tables that were analyzed as empty ones would be compared row by row.
    site.execute("set enable_nestloop = off")
    try:
        return site.execute(" union all ".join(found))
    finally:
        site.execute("reset enable_nestloop")


def copy_of(site: Site, user_id: int, course_id: str, columns: str) -> tuple[Any, ...] | None:
    """Return columns of a user's copy in a course, or ``None`` if there is none."""
    rows = site.execute(
        f"select {columns} from course.auth_user where id = %s and course_id = %s",
        user_id,
        course_id,
    )
    return rows[0] if rows else None


def names(site: Site, course_id: str) -> dict[int, str]:
    """Return the usernames in a course by user id, live and frozen."""
    return dict(
        site.execute("select id, username from course.auth_user where course_id = %s", course_id)
    )


def await_lock(site: Site, process_id: int, timeout_seconds: float = 20) -> None:
    """Wait until a backend waits for a lock."""
    deadline = time.monotonic() + timeout_seconds
    while not site.one("select cardinality(pg_blocking_pids(%s)) > 0", process_id):
        assert time.monotonic() < deadline, f"backend {process_id} never waited for a lock"
        time.sleep(0.002)
