"""Commands that must not meet take turns; who may do nothing but connect can't stand in their way."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pysync.errors import LockedError
from pysync.lifecycle import pause
from pysync.migrate import plan
from pysync.replication import registry
from pysync.types import CourseId, relay_id
from pysync.verification import portal as portal_leg
from tests.integration.fan_out import role
from tests.support import Site, eventually, insert_user

pytestmark = pytest.mark.every_major("which privilege a lock needs has changed since 15")

A = CourseId("A")
EVERY_LOCK = [
    "access share",
    "row share",
    "row exclusive",
    "share update exclusive",
    "share",
    "share row exclusive",
    "exclusive",
    "access exclusive",
]


@contextmanager
def intruder(conninfo: str, name: str, *tables: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect as a role without rights, and leave a transaction open that has tried everything."""
    with psycopg.connect(make_conninfo(conninfo, user=name), autocommit=True) as connection:
        attempts = [
            *(f"lock table {table} in {mode} mode" for table in tables for mode in EVERY_LOCK),
            *(f"select from {table} for key share" for table in tables),
            "create schema pysync",
            "create schema course",
            f"comment on database {connection.info.dbname} is 'mine'",
        ]
        connection.execute("begin")
        for attempt in attempts:
            with (
                pytest.raises(psycopg.errors.InsufficientPrivilege),
                connection.transaction(),
            ):
                connection.execute(attempt.encode())
        # The keys that a command holds can be seen by everybody.
        connection.execute(
            "select pg_try_advisory_lock((classid::bigint << 32) | objid::bigint)"
            " from pg_locks where locktype = 'advisory'"
        )
        yield connection


def test_who_may_only_connect_keeps_no_command_waiting(site: Site) -> None:
    site.add("A")
    course = site.databases["A"]
    with (
        role(site) as on_portal,
        role(site, conninfo=course) as in_course,
        closing(registry.connect_portal(site.portal)) as portal,
    ):
        with registry.locked(portal, A):
            seen = "select (classid::bigint << 32) | objid::bigint from pg_locks"
            (ticket,) = portal.execute(f"{seen} where locktype = 'advisory'").fetchall()[0]
        with (
            intruder(site.portal, on_portal, "pysync.turn", "pysync.alembic_version") as one,
            intruder(course, in_course, "course.alembic_version", "course.this_course"),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), one.transaction():
                one.execute("select pysync.mark('A')")
            one.execute("select pg_advisory_lock(%s)", (ticket,))
            for on in (False, True):
                assert pause.switch(site.portal, A, on=on).changed
            done = [name for name, _ in plan.run_all(site.portal, reinstall=True)]
            assert done == ["A", "portal"]


def test_of_two_commands_the_second_names_the_first(site: Site) -> None:
    with (
        closing(registry.connect_portal(site.portal)) as first,
        closing(registry.connect_portal(site.portal)) as second,
    ):
        pid = first.info.backend_pid
        with registry.locked(first, A):
            with pytest.raises(LockedError) as caught, registry.locked(second, A):
                pass
            assert (
                f"course 'A' is being worked on by another process: {pid} of role 'postgres', "
                "application “pysync”, since "
            ) in caught.value.message
            terminate = f"select pg_terminate_backend({pid})"
            assert terminate in str(caught.value.remedy)
            with registry.locked(second, CourseId("B")):
                pass
            # It may last: neither slots nor vacuum wait for it.
            waited_for = "select from pg_stat_activity where pid = %s and (backend_xid is not null"
            waited_for += " or backend_xmin is not null or state <> 'idle')"
            assert second.execute(waited_for.encode(), (pid,)).fetchall() == []
        with registry.locked(second, A):
            pass
        taken = registry.locked(first, A)
        taken.__enter__()
        second.execute(sql.SQL(terminate))
        # The session is over: what it had is free, without anybody cleaning up.
        with registry.locked(second, A):
            assert second.execute("select pid from pysync.turn").fetchall() == [
                (second.info.backend_pid,)
            ]
        assert second.execute("select from pysync.turn").fetchall() == []


@pytest.mark.oldest_and_newest("publications are altered alike on all")
def test_courses_of_one_relay_take_turns_at_its_publication(site: Site) -> None:
    """Or the second would fail once the first is through: a publication is one row of a catalog."""
    site.register_only("A", "B", "relay:north")
    site.execute("update pysync.course set carries = '{A,B}' where course_id = 'relay:north'")
    site.execute('create publication "unused_relay:north" for table course.mark')
    users = [insert_user(site, name) for name in ("ada", "bob")]
    with (
        closing(registry.connect_portal(site.portal)) as first,
        closing(registry.connect_portal(site.portal)) as second,
        ThreadPoolExecutor(1) as pool,
    ):
        relay = registry.get(first, relay_id("north"))
        with first.transaction():
            portal_leg.mend(first, CourseId("A"), users[:1], silenced=relay)
            waiting = pool.submit(portal_leg.mend, second, CourseId("B"), users[1:], silenced=relay)
            pid = second.info.backend_pid
            query = "select wait_event_type from pg_stat_activity where pid = %s"
            eventually(lambda: site.one(query, pid) == "Lock")
        waiting.result()
    assert site.one("select pubinsert from pg_publication where pubname = 'unused_relay:north'")
