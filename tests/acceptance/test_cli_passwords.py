"""Passwords go from the command line to the servers that ask for them, and nowhere else."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from tests.acceptance.test_cli_process import (
    assert_refused,
    cli,
    courses_of,
    footprint,
    succeed,
)
from tests.conftest import INSTALLATIONS, start_server
from tests.support import Cluster, Site, assert_live_rows, enroll, insert_user

pytestmark = pytest.mark.oldest_and_newest(
    "from 16 on it is a subscription's own setting whether a password is needed"
)

ADMIN, REPLICATOR = "gehe1m-admin", "gehe1m-replicator"
HBA = """
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


@pytest.fixture(scope="module")
def strict_server(major: int, folder: Path) -> Iterator[Cluster]:
    """A server that asks for passwords and logs everything, otherwise with its defaults."""
    executor = start_server(
        INSTALLATIONS[major],
        folder,
        "strict",
        {
            "log_statement": "all",
            "log_min_duration_statement": "0",
            "log_min_error_statement": "debug5",
            "log_connections": "on",
            "log_replication_commands": "on",
            "max_wal_senders": "10",
            "wal_retrieve_retry_interval": "5s",
            "wal_writer_delay": "200ms",
            "max_sync_workers_per_subscription": "2",
        },
        slots=10,
    )
    cluster = Cluster(executor, major)
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute("set log_statement = none")
        connection.execute("set log_min_duration_statement = -1")
        connection.execute(f"create role deploy superuser login password '{ADMIN}'")
        connection.execute(f"create role replicator replication login password '{REPLICATOR}'")
        Path(executor.datadir, "pg_hba.conf").write_text(HBA)
        connection.execute("select pg_reload_conf()")
    yield cluster
    executor.stop()


@pytest.fixture
def strict_site(strict_server: Cluster, course_server: Cluster) -> Iterator[Site]:
    site = Site(strict_server, strict_server, strict_server.create())
    migrate(site.portal, PORTAL, "portal")
    yield site
    site.close()


def output(result: subprocess.CompletedProcess[str]) -> str:
    return result.stdout + result.stderr


def stored(conninfo: str) -> str:
    """Return everything that is in schemas pysync and course, as text."""
    with psycopg.connect(conninfo) as connection:
        tables = connection.execute(
            "select oid::regclass::text from pg_class"
            " where relkind = 'r' and relnamespace::regnamespace::text in ('pysync', 'course')"
        ).fetchall()
        return "\n".join(
            str(connection.execute(f"select * from {table}").fetchall()) for (table,) in tables
        )


def test_passwords_are_used_and_never_shown_stored_or_logged(
    strict_site: Site, strict_server: Cluster
) -> None:
    site = strict_site
    database = site.new_database()
    portal = make_conninfo(site.portal, user="deploy", password=ADMIN)
    course = make_conninfo(database, user="deploy", password=ADMIN)
    for_course = f"user=replicator password={REPLICATOR}"
    arguments = ("course", "add", "A", course, "--portal-conninfo", for_course)
    log = Path(strict_server.executor.logfile)
    enroll(site, insert_user(site, "ada"), "A")

    said = []
    added = cli(*arguments, portal=portal)
    assert added.returncode == 0, added.stderr
    said.append(output(added))
    assert "passwords aren't stored" in added.stderr
    # Such a server's defaults make the first copy slow; it is said so, with what would help.
    assert "warning: course server has wal_retrieve_retry_interval = 5000ms" in added.stderr
    assert "set it to 200ms" in added.stderr
    assert "warning: course server has wal_writer_delay = 200ms" in added.stderr
    assert "warning: course server has max_sync_workers_per_subscription = 2" in added.stderr
    assert "set it to 4" in added.stderr

    # Later commands reach the course by PGPASSWORD, and say what is missing without it.
    enroll(site, insert_user(site, "bob"), "A")
    for command in (("wait", "A"), ("status",), ("course", "list"), ("migrate", "status")):
        result = cli(*command, portal=portal, PGPASSWORD=ADMIN)
        assert result.returncode == 0, result.stderr
        said.append(output(result))
    site.databases["A"] = database
    assert_live_rows(site, "A")
    result = cli("wait", "A", portal=portal)
    assert_refused(result, "no password supplied", "PGPASSWORD")
    said.append(output(result))
    (found,) = courses_of("status", portal=portal).values()
    assert found["state"] == "unreachable"

    # The role of the subscription reads its own course and no other.
    site.register_only("B")
    enroll(site, insert_user(site, "eve"), "B")
    with psycopg.connect(
        site.portal, user="replicator", password=REPLICATOR, autocommit=True
    ) as connection:
        rows = connection.execute("select username from course.auth_user order by 1").fetchall()
        assert rows == [("ada",), ("bob",)]
    site.execute("delete from pysync.course where course_id = 'B'")

    result = cli(*arguments, portal=portal)
    assert result.returncode == 0, result.stderr
    said.append(output(result))
    for conninfo in (site.portal, database):
        assert "gehe1m" not in stored(conninfo)
    result = cli("course", "remove", "A", "--yes", portal=portal, PGPASSWORD=ADMIN)
    assert result.returncode == 0, result.stderr
    said.append(output(result))

    assert "gehe1m" not in "".join(said)
    logged = log.read_text()
    assert "create subscription" not in logged.lower()
    assert "drop subscription" in logged
    assert "gehe1m" not in logged


@pytest.mark.newest("what is said of what libpq says")
@pytest.mark.parametrize("which", ["portal", "course", "subscription"])
def test_a_wrong_password_is_refused_and_changes_nothing(
    strict_site: Site, strict_server: Cluster, which: str
) -> None:
    site = strict_site
    database = site.new_database()
    wrong = {"portal": ADMIN, "course": ADMIN, "subscription": REPLICATOR, which: "gehe1m-wrong"}
    before = footprint(site.portal, database)
    result = cli(
        "course",
        "add",
        "A",
        make_conninfo(database, user="deploy", password=wrong["course"]),
        "--portal-conninfo",
        f"user=replicator password={wrong['subscription']}",
        portal=make_conninfo(site.portal, user="deploy", password=wrong["portal"]),
    )
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    result.stderr = "\n".join(lines)
    assert_refused(result, "password authentication failed")
    assert "gehe1m" not in output(result)
    assert footprint(site.portal, database) == before
    assert "gehe1m" not in Path(strict_server.executor.logfile).read_text()


@contextmanager
def slots_left(site: Site, count: int) -> Iterator[None]:
    """Take a server's ten replication slots but for a few."""
    used = site.one("select count(*) from pg_replication_slots")
    names = [f"taken_{number}" for number in range(10 - count - used)]
    for name in names:
        site.execute("select pg_create_physical_replication_slot(%s)", name)
    yield
    for name in names:
        site.execute("select pg_drop_replication_slot(%s)", name)


@pytest.mark.newest("how many slots our own steps take")
def test_free_slots_that_pass_the_check_are_enough(
    strict_site: Site, course_server: Cluster
) -> None:
    site = strict_site
    database = site.databases["A"] = site.new_database(course_server)
    before = footprint(database)
    with slots_left(site, 2):
        taken = footprint(site.portal)
        result = cli("course", "add", "A", database, portal=site.portal)
        assert_refused(result, "max_replication_slots = 10, 8 in use", "restart")
        assert footprint(site.portal) == taken
    assert footprint(database) == before
    advised = re.search(r"at least (\d+)", result.stderr)
    assert advised
    with slots_left(site, int(advised[1]) - 8):
        succeed("course", "add", "A", database, portal=site.portal)
    succeed("course", "remove", "A", "--yes", portal=site.portal)
