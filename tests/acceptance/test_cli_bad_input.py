"""Bad input: one line that names what is wrong and what to do, and nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pysync.db.connections import Connection
from pysync.demo.servers import free_port
from pysync.diagnosis import checks
from pysync.errors import UnsuitableServerError
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.types import SUPPORTED_MAJORS
from tests.acceptance.test_cli_process import assert_refused, cli, footprint, succeed
from tests.conftest import start_server
from tests.support import PORTAL_TEMPLATE, Cluster, Site, enroll, insert_user

pytestmark = pytest.mark.newest("what the command line makes of its input, whatever the server")

SECRET = "gehe1m"


@pytest.fixture(scope="module")
def site(portal_server: Cluster, course_server: Cluster, portal_template: str) -> Iterator[Site]:
    """A portal with a course, so that there is something to damage; nobody may change it."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    site.add("A")
    enroll(site, insert_user(site, "ada"), "A")
    enroll(site, insert_user(site, "bob"), "B")
    site.wait("A")
    yield site
    site.close()


@pytest.fixture(scope="module")
def poor_server(major: int, folder: Path) -> Iterator[Cluster]:
    """A server that can be neither portal nor course."""
    cluster = start_server(
        major,
        folder,
        "poor",
        {
            "wal_level": "replica",
            "max_logical_replication_workers": "1",
            "max_wal_senders": "0",
        },
        slots=0,
    )
    yield cluster
    cluster.executor.stop()


def nowhere(**parameters: Any) -> str:
    """Return a connection string for a port where nobody listens."""
    defaults = {"host": "127.0.0.1", "port": free_port(), "dbname": "none", "user": "nobody"}
    return make_conninfo("", **{**defaults, **parameters})


@pytest.mark.parametrize(
    ("course_id", "words"),
    [
        ("", ("course id '' is empty",)),
        ("default", ("'default' is reserved",)),
        ("x" * 256, ("too long", "256 characters", "at most 255")),
        ("\udcff", ("can't be stored", "Unicode")),
    ],
    ids=["empty", "default", "over-long", "not Unicode"],
)
def test_ids_that_are_none(site: Site, course_id: str, words: tuple[str, ...]) -> None:
    database = site.new_database()
    before = footprint(site.portal, database)
    for arguments in (
        ("course", "add", course_id, database),
        ("course", "remove", course_id, "--yes"),
        ("status", course_id),
        ("wait", course_id),
        ("migrate", "course", course_id),
    ):
        assert_refused(cli(*arguments, portal=site.portal), *words)
    assert footprint(site.portal, database) == before


def test_courses_that_are_not_registered(site: Site) -> None:
    before = footprint(site.portal)
    for arguments in (
        ("course", "remove", "B", "--yes"),
        ("status", "B"),
        ("wait", "B"),
        ("migrate", "course", "B"),
    ):
        assert_refused(
            cli(*arguments, portal=site.portal), "course 'B' is not registered", "course list"
        )
    assert footprint(site.portal) == before


def test_portals_that_are_none(site: Site) -> None:
    empty = site.new_database(site.portal_server)
    database = site.new_database()
    before = footprint(empty, database)
    commands = (
        ("course", "add", "B", database),
        ("course", "remove", "A", "--yes"),
        ("course", "list"),
        ("status",),
        ("wait", "A"),
        ("migrate", "course", "A"),
    )
    for arguments in commands:
        assert_refused(cli(*arguments), "portal isn't named", "PYSYNC_PORTAL", "--portal")
        assert_refused(
            cli(*arguments, portal=empty), "isn't a portal", "run:\n    pysync migrate portal\n"
        )
    assert footprint(empty, database) == before
    for arguments in (*commands, ("migrate",), ("migrate", "portal"), ("migrate", "status")):
        result = cli(*arguments, portal=nowhere(password=SECRET))
        assert_refused(result, "can't be reached", "none on 127.0.0.1", "check host, port")
        assert SECRET not in result.stderr


def test_connection_strings_that_cannot_be_parsed(site: Site) -> None:
    before = footprint(site.portal, site.databases["A"])
    database = site.databases["A"]
    for broken in (
        f"host=127.0.0.1 password={SECRET} dbname",
        f"postgresql://me:{SECRET}@[127.0.0.1/db",
        f"hots=127.0.0.1 password={SECRET}",
        f"host=127.0.0.1 password='{SECRET}",
    ):
        for result in (
            cli("course", "add", "B", broken, portal=site.portal),
            cli("course", "add", "B", database, "--portal-conninfo", broken, portal=site.portal),
            cli("status", portal=broken),
            cli("--portal", broken, "wait", "A"),
        ):
            assert_refused(result, "connection string can't be parsed", "postgresql://")
            assert SECRET not in result.stderr
    assert footprint(site.portal, site.databases["A"]) == before


def test_removal_is_not_forced_by_a_connection_string_that_cannot_be_parsed(site: Site) -> None:
    before = footprint(site.portal, site.databases["A"])
    for force in ((), ("--force",)):
        result = cli(
            "course", "remove", "A", "--yes", *force, "--conninfo", "x", portal=site.portal
        )
        assert_refused(result, "connection string can't be parsed", "postgresql://")
    assert footprint(site.portal, site.databases["A"]) == before


def test_a_connection_string_without_quotes_does_not_show_its_password(site: Site) -> None:
    result = cli("course", "add", "B", "host=127.0.0.1", f"password={SECRET}", portal=site.portal)
    assert result.returncode == 2
    assert SECRET not in result.stderr


def test_course_databases_that_cannot_be_reached(site: Site) -> None:
    before = footprint(site.portal)
    reachable = site.course_server
    for conninfo, words in (
        (nowhere(), ("none on 127.0.0.1", "Connection refused")),
        (reachable.conninfo("none"), ('database "none" does not exist',)),
        (reachable.conninfo(user="none"), ('role "none" does not exist',)),
        (nowhere(host="no-such-host.invalid"), ("no-such-host.invalid",)),
    ):
        result = cli("course", "add", "B", conninfo, portal=site.portal, PGPASSWORD=SECRET)
        assert_refused(result, "can't be reached", "check host, port", *words)
        assert SECRET not in result.stderr
    assert footprint(site.portal) == before


def test_databases_that_have_another_part_to_play(site: Site) -> None:
    database = site.new_database()
    other_portal = site.new_database(site.portal_server, template=PORTAL_TEMPLATE)
    foreign = site.new_database()
    with psycopg.connect(foreign, autocommit=True) as connection:
        connection.execute("create schema course")
    full = site.new_database()
    with psycopg.connect(full, autocommit=True) as connection:
        connection.execute(
            "create table auth_user (id int primary key, username varchar(150) unique)"
        )
        connection.execute("insert into auth_user values (1, 'eve')")
    latin = "latin_1"
    with psycopg.connect(site.course_server.conninfo(), autocommit=True) as connection:
        connection.execute(
            f"create database {latin} encoding latin1 lc_collate 'C' lc_ctype 'C'"
            " template template0"
        )
    latin = site.course_server.conninfo("latin_1")
    site._created.append((site.course_server, latin))

    databases = (site.portal, site.databases["A"], database, other_portal, foreign, full, latin)
    before = footprint(*databases)
    for course_id, conninfo, words in (
        ("B", site.databases["A"], ("belongs to course 'A'", "database of its own")),
        ("B", site.portal, ("is a portal", "database of its own")),
        (
            "B",
            site.portal.replace("127.0.0.1", "localhost"),
            ("is a portal", "database of its own"),
        ),
        ("B", other_portal, ("is a portal", "database of its own")),
        ("A", database, ("course 'A' is elsewhere", "course move")),
        ("B", foreign, ("schema 'course'", "isn't pysync's", "another database")),
        ("B", full, ("public.auth_user", "holds rows", "without users")),
        ("B", latin, ("encoding LATIN1", "ENCODING 'UTF8'")),
    ):
        result = cli("course", "add", course_id, conninfo, portal=site.portal)
        progress, _, line = result.stderr.rpartition("pysync: ")
        assert set(progress.splitlines()) <= {"migrating the course database …"}
        result.stderr = f"pysync: {line}"
        assert_refused(result, *words)
        assert footprint(*databases) == before, words
    assert site.execute("select course_id from pysync.course") == [("A",)]


def test_the_same_course_of_a_portal_of_the_same_name(site: Site) -> None:
    """A copy of a portal on another server, made for a test, say, knows the same courses."""
    name = str(conninfo_to_dict(site.portal)["dbname"])
    twin = site.course_server.create(name)
    site._created.append((site.course_server, twin))
    migrate(twin, PORTAL, "portal")
    before = footprint(twin, site.portal, site.databases["A"])
    result = cli("course", "add", "A", site.databases["A"], portal=twin)
    assert_refused(result, "another portal")
    assert footprint(twin, site.portal, site.databases["A"]) == before


def test_ways_to_the_portal_that_lead_nowhere(site: Site) -> None:
    database = site.new_database()
    before = footprint(site.portal, database)
    for conninfo, words in (
        (nowhere(), ("Connection refused",)),
        ("dbname=none", ('database "none" does not exist',)),
        ("user=none", ('role "none" does not exist',)),
    ):
        result = cli(
            *("course", "add", "B", database, "--portal-conninfo", conninfo),
            portal=site.portal,
            PYSYNC_SUBSCRIPTION_PASSWORD=SECRET,
        )
        assert_refused(
            result, "course server can't reach the portal", "--portal-conninfo", "pg_hba", *words
        )
        assert SECRET not in result.stderr
        assert footprint(site.portal, database) == before


def test_ways_that_lead_to_something_else_than_the_portal(site: Site) -> None:
    database = site.new_database()
    elsewhere = site.new_database(site.portal_server)
    other_portal = site.new_database(site.portal_server, template=PORTAL_TEMPLATE)
    before = footprint(site.portal, database, other_portal)
    for conninfo in (elsewhere, other_portal):
        result = cli(
            "course", "add", "B", database, "--portal-conninfo", conninfo, portal=site.portal
        )
        assert result.returncode == 1
        assert "--portal-conninfo doesn't lead to this portal" in result.stderr
        assert_refused(result)
        assert footprint(site.portal, database, other_portal) == before


@pytest.mark.oldest_and_newest(
    "settings come and go with versions; those between have the oldest's"
)
def test_servers_whose_settings_do_not_allow_it(site: Site, poor_server: Cluster) -> None:
    database = site.new_database()
    poor_portal, poor_database = poor_server.create(), poor_server.create()
    migrate(poor_portal, PORTAL, "portal")
    before = footprint(site.portal, database, poor_portal, poor_database)
    assert_refused(
        cli("course", "add", "B", database, portal=poor_portal),
        "wal_level 'replica'",
        "set wal_level = logical",
        "restart",
    )
    result = cli("course", "add", "B", poor_database, portal=site.portal)
    assert_refused(result, "max_logical_replication_workers = 1", "at least 2", "restart")
    assert footprint(site.portal, database, poor_portal, poor_database) == before


def make_role(cluster: Cluster, name: str) -> str:
    """Make a role that may log in and nothing else."""
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute(f"drop role if exists {name}")
        connection.execute(f"create role {name} login")
    return name


@pytest.mark.oldest_and_newest("16 changed what roles need")
def test_a_role_without_rights_on_the_portal(site: Site) -> None:
    portal = make_conninfo(site.portal, user=make_role(site.portal_server, "plain"))
    before = footprint(site.portal)
    for arguments in (
        ("course", "add", "B", site.new_database()),
        ("course", "remove", "A", "--yes"),
        ("status",),
        ("wait", "A"),
        ("migrate", "status"),
        ("migrate",),
    ):
        assert_refused(cli(*arguments, portal=portal), "permission denied", "role")
    assert footprint(site.portal) == before


@pytest.mark.oldest_and_newest("16 made subscriptions a privilege")
def test_a_role_without_rights_on_the_course_server(site: Site) -> None:
    database = site.new_database()
    before = footprint(site.portal, database)
    site.course_server.course_template("A")  # with which pysync's own role is there
    conninfo = make_conninfo(database, user=make_role(site.course_server, "plain"))
    result = cli("course", "add", "B", conninfo, portal=site.portal)
    assert_refused(result, "lacks membership in pysync's own role", "grant pysync_course to")
    assert footprint(site.portal, database) == before
    with psycopg.connect(database) as connection:
        connection.execute("grant pysync_course to plain")
    before = footprint(site.portal, database)
    result = cli("course", "add", "B", conninfo, portal=site.portal)
    # The server's own words, which 16 changed.
    with (
        closing(psycopg.connect(conninfo)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege) as refused,
    ):
        connection.execute(
            "create subscription x connection '' publication y with (connect = false)"
        )
    assert_refused(result, str(refused.value.diag.message_primary), "connect as one with these")
    assert footprint(site.portal, database) == before


@pytest.mark.oldest_and_newest("16 changed what roles need")
def test_a_replication_role_without_replication(site: Site) -> None:
    database = site.new_database()
    make_role(site.portal_server, "unable")
    before = footprint(site.portal, database)
    result = cli(
        "course", "add", "B", database, "--portal-conninfo", "user=unable", portal=site.portal
    )
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(make_conninfo(site.portal, user="unable"), replication="database")
    said = str(refused.value).rpartition("FATAL:")[2].split("\n")[0].strip()
    assert said
    assert_refused(result, "can't reach the portal", said)
    assert footprint(site.portal, database) == before


def test_servers_older_than_the_oldest_supported() -> None:
    oldest = SUPPORTED_MAJORS[0]
    for version, refused in ((140015, True), (oldest * 10000, False), (180006, False)):
        connection = cast(
            "Connection", SimpleNamespace(info=SimpleNamespace(server_version=version))
        )
        if not refused:
            checks.check_version(connection, "portal")
            continue
        with pytest.raises(UnsuitableServerError, match="portal server is PostgreSQL 14") as error:
            checks.check_version(connection, "portal")
        assert f"{oldest} or later" in str(error.value)
        assert "upgrade" in str(error.value)


def test_removal_asks_for_a_confirmation(site: Site) -> None:
    before = footprint(site.portal, site.databases["A"])
    result = cli("course", "remove", "A", portal=site.portal)
    assert (result.returncode, result.stdout) == (2, "")
    assert "confirm with --yes" in result.stderr
    assert footprint(site.portal, site.databases["A"]) == before


def test_removal_does_not_touch_another_courses_database(site: Site) -> None:
    site.add("C")
    enroll(site, insert_user(site, "cyd"), "C")
    site.wait("C")
    before = footprint(site.portal, *site.databases.values())
    result = cli(
        "course", "remove", "A", "--yes", "--conninfo", site.databases["C"], portal=site.portal
    )
    with pytest.raises(psycopg.Error) as error:
        site.course("C").execute("delete from auth_user")
    assert error.value.sqlstate == "PY002"
    assert_refused(result, "belongs to course 'C'")
    assert footprint(site.portal, *site.databases.values()) == before
    succeed("course", "remove", "C", "--yes", portal=site.portal)
    del site.databases["C"]
