"""What tests share: databases on real servers, courses on them, and what must be true of them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pytest_postgresql.executors import PostgreSQLExecutor

from pysync.db.sql_files import frozen, statements
from pysync.diagnosis.grants import GRANTS, owners_statement
from pysync.lifecycle import courses
from pysync.migrate import migrate
from pysync.migrate.lineage import COURSE
from pysync.models.replicated import replicated
from pysync.replication import identities
from pysync.types import CourseId

REQUIRED_PROGRAMS = "PYSYNC_TEST_PROGRAMS"
"""Environment variable: anything but empty makes a program of Debian's that is missing an error."""

TEMPLATED_COURSES = ("A", "B")
"""Courses whose databases are copies of a migrated one where no test is about adding them."""

PORTAL_TEMPLATE = "portal_template"
"""The migrated database that portals are copies of."""

_numbers = itertools.count(1)

Rows = list[tuple[Any, ...]]

# A table's columns that both sides have: a new one is compared as soon as it is declared.
USER_COLUMNS = ", ".join(name for name in replicated("auth_user").columns if name != "course_id")
PROFILE_COLUMNS = ", ".join(
    name for name in replicated("auth_userprofile").columns if name != "course_id"
)
ENROLLMENT_COLUMNS = ", ".join(replicated("student_courseenrollment").columns)


def missing(program: str, packages: str) -> NoReturn:
    """Skip a test whose program isn't installed, or fail it where all of them are asked for."""
    advice = f"{program} is missing: run 'apt-get install {packages}'"
    if os.environ.get(REQUIRED_PROGRAMS):
        pytest.fail(advice)
    pytest.skip(advice)


class Silent:
    """Progress that nobody watches; warnings are kept."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.steps: list[str] = []

    def step(self, description: str, total: int | None = None) -> None:
        self.steps.append(description)

    def advance(self, done: int) -> None:
        pass

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def _template(course_id: str) -> str:
    return f"course_template_{course_id}"


def eventually(condition: Callable[[], Any], timeout_seconds: float = 20) -> Any:
    """Wait until a condition holds and return what it returned."""
    asked = time.monotonic()
    deadline = asked + timeout_seconds
    pause = 0.01
    while not (result := condition()):
        assert time.monotonic() < deadline, "condition not met in time"
        # Whoever asks all the time keeps what is waited for from happening.
        time.sleep(max(pause, min(time.monotonic() - asked, 1)))
        pause = min(pause * 1.5, 0.2)
        asked = time.monotonic()
    return result


@dataclass
class Cluster:
    """A running server."""

    executor: PostgreSQLExecutor
    major: int
    granted: dict[str, Any] = field(default_factory=dict)
    """How to connect as the role that has what ``pysync grants`` prints, once it is admitted."""
    _course_templates: set[str] = field(default_factory=set)
    _session: psycopg.Connection[Any] | None = None

    def conninfo(self, dbname: str = "postgres", **parameters: Any) -> str:
        defaults = {
            "host": self.executor.host,
            "port": self.executor.port,
            "user": self.executor.user,
        }
        return make_conninfo("", **{**defaults, "dbname": dbname, **parameters})

    def create(self, name: str | None = None, template: str | None = None) -> str:
        """Create a database and return its conninfo."""
        name = name or f"test_{next(_numbers)}"
        # Copying files is faster than logging each page, and spares every walsender reading them.
        statement = sql.SQL("create database {} template {} strategy file_copy").format(
            sql.Identifier(name), sql.Identifier(template or "template1")
        )
        self.session().execute(statement)
        return self.conninfo(name)

    def session(self) -> psycopg.Connection[Any]:
        """Return a superuser's session that stays, in a database that nobody is tested on."""
        with suppress(psycopg.OperationalError):  # the server may have ended it
            if self._session is not None and not self._session.closed:
                self._session.execute("select")
                return self._session
        self._session = psycopg.connect(self.conninfo(), autocommit=True, prepare_threshold=None)
        weakref.finalize(self, self._session.close)
        return self._session

    def has_course_templates(self) -> None:
        """Note that the databases are there: the server's data are a copy."""
        self._course_templates = {_template(each) for each in TEMPLATED_COURSES}

    def course_template(self, course_id: str, *, granted: bool = False) -> str | None:
        """Return a database as migration makes it for a course, to copy; none if few tests add it.

        :param granted: migrated by the role that has what ``pysync grants`` prints.
        """
        if course_id not in TEMPLATED_COURSES:
            return None
        name = _template(course_id) + "_granted" * granted
        if name not in self._course_templates:
            conninfo = self.create(name)
            if granted:
                conninfo = grant(self, "course", conninfo)
            migrate(conninfo, COURSE, name, course=CourseId(course_id))
            with psycopg.connect(conninfo) as connection:
                connection.execute("call course.take_over()")
            self._course_templates.add(name)
        return name

    def admit_granted(self, passfile: Path) -> None:
        """Make a role that is no superuser, and logs in by password, as others than superusers must.

        :param passfile: gets its password; it is none of the connection strings' business.
        """
        user, password = "granted", "only for tests"
        hba = Path(self.executor.datadir) / "pg_hba.conf"
        rule = f"host all {user} 127.0.0.1/32 scram-sha-256\n"
        hba.write_text(rule + hba.read_text(encoding="utf-8"), encoding="utf-8")
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("create role {} login createdb createrole replication password {}").format(
                    sql.Identifier(user), sql.Literal(password)
                )
            )
            connection.execute("select pg_reload_conf()")
        passfile.touch(mode=0o600)
        with passfile.open("a", encoding="utf-8") as file:
            file.write(f"127.0.0.1:{self.executor.port}:*:{user}:{password}\n")
        self.granted = {"user": user, "passfile": str(passfile)}

    def drop(self, conninfo: str) -> None:
        """Drop a database, its subscriptions first."""
        name = conninfo_to_dict(conninfo)["dbname"]
        server = self.session()
        subscriptions = server.execute(
            "select subname from pg_subscription s join pg_database d on d.oid = s.subdbid"
            " where d.datname = %s",
            (name,),
        ).fetchall()
        if subscriptions:
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(conninfo, autocommit=True) as connection,
            ):
                for (subscription,) in subscriptions:
                    named = sql.Identifier(subscription)
                    for action in (
                        "alter subscription {} disable",
                        "alter subscription {} set (slot_name = none)",
                        "drop subscription {}",
                    ):
                        connection.execute(sql.SQL(action).format(named))
        slots = server.execute(
            "select slot_name from pg_replication_slots where database = %s", (name,)
        ).fetchall()
        for (slot,) in slots:
            drop_slot(server, slot)
        server.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(str(name)))
        )


def drop_slot(connection: psycopg.Connection[Any], slot: str) -> None:
    while True:
        connection.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots"
            " where slot_name = %s and active_pid is not null",
            (slot,),
        )
        try:
            connection.execute("select pg_drop_replication_slot(%s)", (slot,))
        except psycopg.errors.ObjectInUse:
            continue
        except psycopg.errors.UndefinedObject:
            return
        return


@dataclass
class Site:
    """A portal and its courses."""

    granted: ClassVar[bool] = False
    portal_server: Cluster
    course_server: Cluster
    portal: str
    databases: dict[str, str] = field(default_factory=dict)
    _created: list[tuple[Cluster, str]] = field(default_factory=list)
    _connections: list[psycopg.Connection[Any]] = field(default_factory=list)
    _session: tuple[str, psycopg.Connection[Any] | None] = ("", None)

    def __post_init__(self) -> None:
        """A copy of a template isn't the portal that the template is."""
        with psycopg.connect(as_superuser(self.portal), autocommit=True) as connection:
            (there,) = (
                connection.execute("select to_regclass('pysync.this_portal')").fetchone() or ()
            )
            if there:
                identities.claim(connection, as_copy=True)

    def connect(self, conninfo: str | None = None, **parameters: Any) -> psycopg.Connection[Any]:
        """Open an autocommit connection, to the portal unless told otherwise."""
        target = make_conninfo(conninfo or self.portal, **parameters)
        connection = psycopg.connect(target, autocommit=True)
        self._connections.append(connection)
        return connection

    def course(self, course_id: str) -> psycopg.Connection[Any]:
        """Open an autocommit connection to a course database."""
        return self.connect(self.databases[course_id])

    def new_database(self, cluster: Cluster | None = None, template: str | None = None) -> str:
        """Create a database that goes away with the site, on the course server by default."""
        cluster = cluster or self.course_server
        conninfo = cluster.create(template=template)
        self._created.append((cluster, conninfo))
        return conninfo

    def add(self, course_id: str, conninfo: str | None = None) -> courses.Added:
        """Add a course, with a fresh database unless one is given."""
        conninfo = conninfo or self._course_database(course_id)
        self.databases[course_id] = conninfo
        return courses.add(self.portal, CourseId(course_id), conninfo, Silent())

    def _course_database(self, course_id: str) -> str:
        """Create a database that is migrated already if the course is one that many tests add."""
        template = self.course_server.course_template(course_id, granted=self.granted)
        conninfo = self.new_database(template=template)
        if template:
            with psycopg.connect(conninfo) as connection:
                # A copy has no settings of its database's own.
                for statement in statements(frozen("course")["search_path.sql"]):
                    connection.execute(statement.encode())
        return conninfo

    def wait(self, *course_ids: str, timeout_seconds: float = 30) -> None:
        """Wait until courses (all by default) have what the portal has committed."""
        for course_id in course_ids or self.databases:
            mark = self.one("select pysync.mark(%s)", course_id)
            with psycopg.connect(self.databases[course_id], autocommit=True) as connection:
                connection.execute(
                    "call course.wait_for(%s, make_interval(secs => %s))", (mark, timeout_seconds)
                )

    def execute(self, query: str | sql.Composed, *arguments: Any) -> Rows:
        """Run a statement on the portal in a transaction of its own; returns its rows.

        The session stays for the next one, and is renewed if somebody has ended it.
        """
        target, session = self._session
        if target != self.portal or session is None or session.closed:
            self._forget_session()
            session = psycopg.connect(self.portal, autocommit=True, prepare_threshold=None)
            self._session = (self.portal, session)
            # Not every site is closed by its test.
            weakref.finalize(self, session.close)
        try:
            cursor = session.execute(query, arguments or None)
        except psycopg.OperationalError:
            if not session.closed:
                raise
            return self.execute(query, *arguments)
        return cursor.fetchall() if cursor.description else []

    def _forget_session(self) -> None:
        if (session := self._session[1]) is not None:
            session.close()
        self._session = ("", None)

    def one(self, query: str | sql.Composed, *arguments: Any) -> Any:
        """Return the only value of a query on the portal."""
        return self.execute(query, *arguments)[0][0]

    def register_only(self, *course_ids: str) -> None:
        """Register courses without databases: enough for the fan-out."""
        for course_id in course_ids:
            self.execute(
                "insert into pysync.course (course_id, replication_name, conninfo,"
                " portal_conninfo, replication_role) values (%s, %s, '', '', '')",
                course_id,
                f"unused_{course_id}",
            )

    def close_connections(self) -> None:
        """Close what is open: a database with connections is no template."""
        for connection in self._connections:
            connection.close()
        self._forget_session()

    def close(self) -> None:
        self.close_connections()
        for cluster, conninfo in self._created:
            cluster.drop(conninfo)
        self.portal_server.drop(self.portal)


def as_superuser(conninfo: str) -> str:
    """Return how a superuser connects to a database: what a test itself does there needs one."""
    return make_conninfo(conninfo, user="postgres")


class GrantedSite(Site):
    """A site whose administrator isn't a superuser and has what ``pysync grants`` prints."""

    granted = True

    def __init__(self, portal_server: Cluster, course_server: Cluster, template: str) -> None:
        portal = grant(portal_server, "portal", portal_server.create(template=template))
        super().__init__(portal_server, course_server, portal)

    def new_database(self, cluster: Cluster | None = None, template: str | None = None) -> str:
        """Create a database of the role's own, with what a course database needs granted."""
        cluster = cluster or self.course_server
        conninfo = super().new_database(cluster, template)
        if template:
            with psycopg.connect(conninfo) as connection:
                for (table,) in connection.execute(
                    "select oid::regclass::text from pg_class"
                    " where relnamespace = 'public'::regnamespace and relkind = 'r'"
                ).fetchall():
                    connection.execute(f"alter table {table} owner to {cluster.granted['user']}")
        return grant(cluster, "course", conninfo)


def grant(cluster: Cluster, side: str, conninfo: str) -> str:
    """Give a database to the role that is no superuser, with what ``pysync grants`` prints for it.

    :returns: how that role connects.
    """
    user, database = cluster.granted["user"], str(conninfo_to_dict(conninfo)["dbname"])
    statements = [each.to(user, database) for each in GRANTS[side] if each.since <= cluster.major]
    owner = sql.SQL("alter database {} owner to {}").format(
        sql.Identifier(database), sql.Identifier(user)
    )
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(owner)
        for statement in [*statements, owners_statement(side, user)]:
            connection.execute(statement.encode())
    return make_conninfo(conninfo, **cluster.granted)


def insert_user(site: Site, username: str, **columns: Any) -> int:
    """Insert a user on the portal and return its id."""
    values = {"username": username, "password": "secret", "email": f"{username}@example.org"}
    values |= columns
    statement = sql.SQL("insert into public.auth_user ({}) values ({}) returning id").format(
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    return int(site.one(statement, *values.values()))


def enroll(site: Site, user_id: int, course_id: str) -> int:
    """Enroll a user and return the enrollment's id."""
    return int(
        site.one(
            "insert into public.student_courseenrollment (user_id, course_id) values (%s, %s)"
            " returning id",
            user_id,
            course_id,
        )
    )


def unenroll(site: Site, user_id: int, course_id: str) -> None:
    site.execute(
        "delete from public.student_courseenrollment where user_id = %s and course_id = %s",
        user_id,
        course_id,
    )


def assert_live_rows(site: Site, course_id: str) -> None:
    """Every enrolled user, profile and enrollment is in the course database as on the portal."""
    with psycopg.connect(site.databases[course_id], autocommit=True) as course:
        for columns, on_portal, in_course in (
            (
                USER_COLUMNS,
                "select {} from public.auth_user where id in"
                " (select user_id from public.student_courseenrollment where course_id = %s)"
                " order by id",
                "select {} from course.auth_user where id in"
                " (select user_id from course.student_courseenrollment) order by id",
            ),
            (
                PROFILE_COLUMNS,
                "select {} from public.auth_userprofile where user_id in"
                " (select user_id from public.student_courseenrollment where course_id = %s)"
                " order by id",
                "select {} from course.auth_userprofile where user_id in"
                " (select user_id from course.student_courseenrollment) order by id",
            ),
            (
                ENROLLMENT_COLUMNS,
                "select {} from public.student_courseenrollment where course_id = %s order by id",
                "select {} from course.student_courseenrollment order by id",
            ),
        ):
            expected = site.execute(on_portal.format(columns), course_id)
            found = course.execute(in_course.format(columns)).fetchall()
            assert found == expected, (
                f"course {course_id!r}: {len(expected)} rows of '{columns[:30]}…' expected, "
                f"{len(found)} found; only on the portal: {sorted(set(expected) - set(found))[:5]}, "
                f"only in the course: {sorted(set(found) - set(expected))[:5]}"
            )


@contextmanager
def as_role(site: Site, role: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect to the portal as a role."""
    with psycopg.connect(make_conninfo(site.portal, user=role), autocommit=True) as connection:
        yield connection


def run_cli(
    *arguments: str, portal: str | None = None, timeout: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process, its output in pipes."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYSYNC_"))}
    if portal is not None:
        env["PYSYNC_PORTAL"] = portal
    return subprocess.run(
        [sys.executable, "-m", "pysync", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env | environment,
    )
