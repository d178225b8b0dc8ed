"""``course.replication_status``: what a monitoring role reads in a course database by plain SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from pysync.watching.status import State, status
from tests.acceptance.test_cli_status import alter_subscription, replication_name
from tests.support import Site, enroll, eventually, insert_user

pytestmark = pytest.mark.every_major("the views that it reads gain columns with versions")


@pytest.fixture
def watcher(site: Site) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A role that may read the view in course A's database, and nothing else."""
    site.add("A")
    course = site.course("A")
    course.execute("create role watcher login")
    conninfo = make_conninfo(site.databases["A"], user="watcher")
    with closing(psycopg.connect(conninfo, autocommit=True, row_factory=dict_row)) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select from course.replication_status")
        course.execute(
            "grant usage on schema course to watcher;"
            "grant select on course.replication_status to watcher"
        )
        yield connection
    course.execute("drop owned by watcher; drop role watcher")


def read(connection: psycopg.Connection[dict[str, Any]]) -> dict[str, Any]:
    (row,) = connection.execute("select * from course.replication_status").fetchall()
    return row


def counts_conflicts(course: psycopg.Connection[Any]) -> bool:
    rows = course.execute("select * from pg_stat_subscription_stats limit 0")
    return any(column.name.startswith("confl_") for column in rows.description or ())


def test_a_monitoring_role_reads_how_replication_is(
    site: Site, watcher: psycopg.Connection[dict[str, Any]]
) -> None:
    site.wait("A")
    name = replication_name(site, "A")
    found = read(watcher)
    number, marked_at = site.execute("select number, marked_at from course.mark")[0]
    assert found.pop("worker_pid") > 0
    assert found.pop("received_lsn") is not None
    counted = 0 if counts_conflicts(site.course("A")) else None
    assert (found.pop("conflicts"), found.pop("missed_changes")) == (counted, counted)
    assert found.pop("server_started_at") is not None
    assert found == {
        "course_id": "A",
        "subscription_name": name,
        "subscription_exists": True,
        "subscription_enabled": True,
        "slot_name": name,
        "tables_ready": 4,
        "tables_total": 4,
        "tables_uncopied": None,
        "rows_copied": None,
        "apply_errors": 0,
        "sync_errors": 0,
        "mark": number,
        "marked_at": marked_at,
        "missing_since": None,
        "missing_until": None,
    }
    for query in ("select from course.mark", "select from course.this_course"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            watcher.execute(query.encode())


def test_the_view_tells_errors_and_what_is_missing(
    site: Site, watcher: psycopg.Connection[dict[str, Any]]
) -> None:
    course = site.course("A")
    course.execute("alter table course.auth_user add constraint no check (username <> 'ada')")
    enroll(site, insert_user(site, "ada"), "A")
    eventually(lambda: read(watcher)["apply_errors"] > 0)
    alter_subscription(site, "A", "disable")
    eventually(lambda: read(watcher)["worker_pid"] is None)
    found = read(watcher)
    assert (found["subscription_exists"], found["subscription_enabled"]) == (True, False)
    alter_subscription(site, "A", "set (slot_name = none)")
    course.execute(f"drop subscription {replication_name(site, 'A')}")
    found = read(watcher)
    assert (found["course_id"], found["subscription_exists"]) == ("A", False)
    assert found["subscription_name"] is None
    assert found["mark"] is not None


def test_a_report_needs_no_rights_of_a_superuser_in_a_course(
    site: Site, watcher: psycopg.Connection[dict[str, Any]]
) -> None:
    """Who may not read replication origins isn't told what is applied, and nothing else."""
    site.course("A").execute("grant select on all tables in schema course to watcher")
    site.execute("update pysync.course set conninfo = conninfo || ' user=watcher'")
    (found,) = status(site.portal)
    assert (found.state, found.cause) == (State.STREAMING, None)


def test_another_database_of_the_server_is_not_told_of(
    site: Site, watcher: psycopg.Connection[dict[str, Any]]
) -> None:
    site.add("B")
    assert read(watcher)["subscription_name"] == replication_name(site, "A")
