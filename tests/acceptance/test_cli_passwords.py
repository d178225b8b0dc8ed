"""Passwords go from the command line to the servers that ask for them, and nowhere else."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.acceptance.test_cli_process import (
    assert_refused,
    cli,
    courses_of,
    footprint,
    succeed,
)
from tests.conftest import PORTALS, start_server
from tests.support import PORTAL_TEMPLATE, Cluster, Site, assert_live_rows, enroll, insert_user

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
    cluster = start_server(
        major,
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
        holds=PORTALS,
    )
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute("set log_statement = none")
        connection.execute("set log_min_duration_statement = -1")
        connection.execute(f"create role deploy superuser login password '{ADMIN}'")
        connection.execute(f"create role replicator replication login password '{REPLICATOR}'")
        Path(cluster.executor.datadir, "pg_hba.conf").write_text(HBA)
        connection.execute("select pg_reload_conf()")
    yield cluster
    cluster.executor.stop()


@pytest.fixture
def strict_site(strict_server: Cluster, course_server: Cluster) -> Iterator[Site]:
    portal = strict_server.create(template=PORTAL_TEMPLATE)
    site = Site(strict_server, strict_server, portal)
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
    strict_site: Site, strict_server: Cluster, tmp_path: Path
) -> None:
    site = strict_site
    database = site.new_database()
    portal = make_conninfo(site.portal, user="deploy", password=ADMIN)
    course = make_conninfo(database, user="deploy")
    arguments = ("course", "add", "A", course, "--portal-conninfo", "user=replicator")
    log = Path(strict_server.executor.logfile)
    enroll(site, insert_user(site, "ada"), "A")

    said = []
    added = cli(
        *arguments, portal=portal, PGPASSWORD=ADMIN, PYSYNC_SUBSCRIPTION_PASSWORD=REPLICATOR
    )
    assert added.returncode == 0, added.stderr
    said.append(output(added))
    # Such a server's defaults make the first copy slow; it is said so, with what would help.
    assert "warning: course server has wal_retrieve_retry_interval = 5000ms" in added.stderr
    assert "alter system set wal_retrieve_retry_interval = '200ms'" in added.stderr
    assert "warning: course server has wal_writer_delay = 200ms" in added.stderr
    assert "warning: course server has max_sync_workers_per_subscription = 2" in added.stderr
    assert "alter system set max_sync_workers_per_subscription = 4" in added.stderr

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

    # A file has the password, with whatever follows it.
    secret = tmp_path / "secret"
    secret.write_text(f"{REPLICATOR}\nand a note\n")
    resync = ("resync", "A", "--portal-conninfo", "user=replicator", "--password-file")
    with psycopg.connect(database, autocommit=True) as connection:
        name = str(site.one("select replication_name from pysync.course"))
        for action in ("disable", "set (slot_name = none)"):
            connection.execute(f"alter subscription {name} {action}".encode())
        connection.execute(f"drop subscription {name}".encode())
    result = cli(*resync, str(tmp_path), portal=portal, PGPASSWORD=ADMIN)
    assert_refused(result, f"password file '{tmp_path}' can't be read")
    result = cli(*resync, str(secret), portal=portal, PGPASSWORD=ADMIN)
    assert result.returncode == 0, result.stderr
    said.append(output(result))
    refused = cli(
        *arguments, portal=portal, PGPASSWORD=ADMIN, PYSYNC_SUBSCRIPTION_PASSWORD="gehe1m-wrong"
    )
    assert "password authentication failed" in refused.stderr
    said.append(output(refused))
    site.wait("A")
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
        make_conninfo(database, user="deploy"),
        "--portal-conninfo",
        "user=replicator",
        portal=make_conninfo(site.portal, user="deploy", password=wrong["portal"]),
        PGPASSWORD=wrong["course"],
        PYSYNC_SUBSCRIPTION_PASSWORD=wrong["subscription"],
    )
    result.stderr = result.stderr[result.stderr.index("pysync: ") :]  # warnings come before
    assert_refused(result, "password authentication failed")
    assert "gehe1m" not in output(result)
    assert footprint(site.portal, database) == before
    assert "gehe1m" not in Path(strict_server.executor.logfile).read_text()


@pytest.mark.newest("where we ask, whichever server needs it")
def test_who_sits_at_a_terminal_is_asked(strict_site: Site, strict_server: Cluster) -> None:
    site = strict_site
    database = make_conninfo(site.new_database(), user="deploy")
    ours, theirs = pty.openpty()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYSYNC_"))}
    env |= {
        "PYSYNC_PORTAL": make_conninfo(site.portal, user="deploy", password=ADMIN),
        "PGPASSWORD": ADMIN,
        "TERM": "dumb",
    }
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pysync", "course", "add", "A", database),
            *("--portal-conninfo", "user=replicator"),
        ],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    try:
        while not said.endswith(b"(or none): "):  # the blank comes once nothing is echoed
            said += os.read(ours, 1000)
        os.write(ours, f"{REPLICATOR}\n".encode())
        while part := os.read(ours, 1000):
            said += part
    except OSError:  # Linux has no end of file for terminals
        pass
    assert process.wait(60) == 0, said
    os.close(ours)
    assert b"Password of 'replicator' on the portal" in said
    assert b"gehe1m" not in said
    succeed("course", "remove", "A", "--yes", portal=env["PYSYNC_PORTAL"], PGPASSWORD=ADMIN)


@pytest.mark.newest("what is refused before any server is asked")
@pytest.mark.parametrize(
    "conninfo",
    ["host=127.0.0.1 password=gehe1m", "postgresql://me:gehe1m@127.0.0.1/db", "sslpassword=gehe1m"],
)
def test_a_password_among_the_arguments_is_refused(site: Site, conninfo: str) -> None:
    course, subscription = "PGPASSWORD", "PYSYNC_SUBSCRIPTION_PASSWORD"
    for arguments, word in (
        (("course", "add", "A", conninfo), course),
        (("course", "add", "A", "", "--portal-conninfo", conninfo), subscription),
        (("course", "move", "A", conninfo), course),
        (("course", "move", "A", "", "--portal-conninfo", conninfo), subscription),
        (("course", "remove", "A", "--yes", "--conninfo", conninfo), course),
        (("resync", "A", "--portal-conninfo", conninfo), subscription),
        (("--portal", conninfo, "status"), "PYSYNC_PORTAL"),
        (("status", "--portal", conninfo), "PYSYNC_PORTAL"),
    ):
        result = cli(*arguments, portal=site.portal)
        assert_refused(result, "refused: it has a password", "leave it out there", word)
        assert "gehe1m" not in output(result)


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
