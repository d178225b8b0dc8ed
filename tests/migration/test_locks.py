"""A migration that can't have its locks gives up; one that dies leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pysync.db.connections import LOCK_TIMEOUT_SECONDS
from pysync.errors import LockedError
from pysync.migrate import Lineage, head_revision, migrate
from pysync.migrate import databases as migration_databases
from pysync.migrate import plan as migration_plan
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.types import CourseId
from tests.django_site.process import new_site
from tests.migration.catalog import catalog, difference
from tests.migration.conftest import NewDatabase, run
from tests.support import Cluster

pytestmark = pytest.mark.oldest_and_newest("which locks a statement takes is up to the version")

INSERT = (
    "insert into auth_user (username, password, is_superuser, first_name, last_name, email,"
    " is_staff, is_active, date_joined) values (%s, '', false, '', '', '', false, true, now())"
)


@contextmanager
def uncommitted_insert(conninfo: str) -> Iterator[None]:
    """Hold the lock that any writing transaction holds on the users."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(INSERT, ("uncommitted",))
        yield
        connection.rollback()


def await_waiting_migration(conninfo: str) -> int:
    """Wait until a migration queues for a table's lock; returns its server process."""
    deadline = time.monotonic() + 20
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(
                "select pid from pg_stat_activity where application_name = 'pysync'"
                " and datname = current_database() and wait_event_type = 'Lock'"
                " and wait_event = 'relation'"
            ).fetchone()
            if row:
                return int(row[0])
            time.sleep(0.01)
    raise AssertionError("no migration waits for a lock")


def await_end(conninfo: str, server_process: int) -> None:
    deadline = time.monotonic() + 20
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while connection.execute(
            "select from pg_stat_activity where pid = %s", (server_process,)
        ).fetchone():
            assert time.monotonic() < deadline, "the server process of the dead client lives on"
            time.sleep(0.01)


def test_a_migration_gives_up_within_seconds_and_lets_applications_go_on(
    new_database: NewDatabase, course_server: Cluster
) -> None:
    portal = new_database(template=new_site(course_server))
    before = catalog(portal)

    def write() -> float:
        """Write as an application does, behind the waiting migration."""
        await_waiting_migration(portal)
        start = time.monotonic()
        with psycopg.connect(portal, autocommit=True) as connection:
            connection.execute(INSERT, ("ada",))
        return time.monotonic() - start

    with uncommitted_insert(portal), ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        start = time.monotonic()
        with pytest.raises(LockedError, match=r"portal is busy: .* it is held by process"):
            run(portal, PORTAL)
        assert time.monotonic() - start < LOCK_TIMEOUT_SECONDS + 5
        assert writing.result(timeout=20) < LOCK_TIMEOUT_SECONDS + 5
    assert difference(before, catalog(portal)) == {}
    run(portal, PORTAL)


@pytest.mark.newest("a transaction that ends with its session, as in any version")
def test_a_killed_migration_leaves_the_database_as_it_was(
    new_database: NewDatabase, course_server: Cluster
) -> None:
    portal = new_database(template=new_site(course_server))
    before = catalog(portal)
    with uncommitted_insert(portal):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        process = subprocess.Popen(
            [sys.executable, "-m", "pysync", "migrate", "portal"],
            env=environment | {"PYSYNC_PORTAL": portal},
        )
        server_process = await_waiting_migration(portal)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    await_end(portal, server_process)
    assert difference(before, catalog(portal)) == {}
    run(portal, PORTAL)


def test_of_two_migrations_at_once_the_second_finds_it_done(
    lineage: Lineage, new_database: NewDatabase
) -> None:
    database = new_database()
    barrier = threading.Barrier(2, timeout=20)

    def one() -> Any:
        barrier.wait()
        course = CourseId("A") if lineage is COURSE else None
        return migrate(database, lineage, lineage.name, course=course)

    with ThreadPoolExecutor() as pool:
        done = [each.result(timeout=60) for each in [pool.submit(one), pool.submit(one)]]
    head = head_revision(lineage)
    assert sorted(str(each.before) for each in done) == sorted(["None", head])
    assert [each.after for each in done] == [head, head]


@pytest.mark.newest("locks of tables and names, and a time-out of ours")
def test_who_waits_too_long_for_another_migration_gives_up_and_names_it(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration_databases, "TURN_TIMEOUT_SECONDS", 0.2)
    database = new_database()
    with psycopg.connect(database, application_name="other") as other:
        message = (
            f"portal is being migrated by another process: {other.info.backend_pid} of role "
            "'postgres', application “other”, since "
        )
        # The first migration of a database takes turns before anything is there.
        other.execute("create schema pysync")
        other.execute("create table pysync.first ()")
        with pytest.raises(LockedError, match=message) as caught:
            run(database, PORTAL)
        other.rollback()
        assert f"select pg_terminate_backend({other.info.backend_pid})" in str(caught.value.remedy)
        run(database, PORTAL)
        other.execute("lock table pysync.alembic_version in exclusive mode")
        with pytest.raises(LockedError, match=message):
            run(database, PORTAL)
        other.rollback()
        with (
            migration_plan.exclusive(database) as portal,
            pytest.raises(
                LockedError, match=f"portal is being migrated .*{portal.info.backend_pid}"
            ),
        ):
            list(migration_plan.run_all(database))
        # Who only reads waits for nobody.
        with migration_plan.exclusive(database):
            assert migration_plan.run_portal(database, offline=True)[0] == "portal"
    assert [name for name, _ in migration_plan.run_all(database)] == ["portal"]
