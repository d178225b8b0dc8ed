"""However somebody connects: what is stored works for others, and no server is taken for another."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pysync.db.addresses import for_course, left_to_environment, written_out
from pysync.db.connections import connect, connect_async, fetch_value
from pysync.demo.servers import free_port, identity, make_folder
from pysync.errors import UnsuitableServerError
from pysync.findings import Finding
from pysync.replication import identities
from pysync.types import CourseId
from pysync.watching.doctor import addresses, examine
from tests.acceptance.test_cli_process import assert_refused, cli, footprint, succeed
from tests.acceptance.test_cli_status import alter_subscription, replication_name, state_of
from tests.support import (
    Cluster,
    Site,
    assert_live_rows,
    drop_slot,
    enroll,
    eventually,
    insert_user,
    missing,
)

pytestmark = pytest.mark.oldest_and_newest("what servers and their libpq make of a connection")

OURS = "select pg_backend_pid(), current_setting('search_path'), current_setting('lock_timeout')"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGSERVICE", "PGSERVICEFILE", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def pooler(cluster: Cluster, folder: Path, mode: str, ignored: str = "") -> Iterator[int]:
    """Run pgbouncer in front of a server, with one session for all; returns its port."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") or missing(
        "pgbouncer", "pgbouncer"
    )
    port = free_port()
    home = make_folder(folder / f"pgbouncer-{port}")
    (home / "users").write_text('"postgres" ""\n')
    (home / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={cluster.executor.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {home}/users\npool_mode = {mode}\ndefault_pool_size = 1\n"
        f"ignore_startup_parameters = extra_float_digits{ignored}\n"
    )
    process = subprocess.Popen(
        [program, "-q", str(home / "pgbouncer.ini")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **identity(),
    )
    try:
        target = cluster.conninfo(port=port)

        def answers() -> bool:
            assert process.poll() is None, "pgbouncer has ended"
            try:
                psycopg.connect(target).close()
            except psycopg.OperationalError:
                return False
            return True

        eventually(answers)
        yield port
    finally:
        process.terminate()
        process.wait()


def test_a_pooler_is_refused_and_nothing_stays_in_its_sessions(site: Site, folder: Path) -> None:
    site.add("A")
    # One takes no settings at the start, one leaves them out, one keeps its sessions together.
    for mode, ignored in (("transaction", ""), ("transaction", ", options"), ("session", "")):
        with pooler(site.portal_server, folder, mode, ignored) as port:
            portal = make_conninfo(site.portal, port=port)
            with psycopg.connect(portal, autocommit=True) as application:
                before = application.execute(OURS).fetchone()
            for command in (("status",), ("migrate",)):
                result = cli(*command, portal=portal)
                assert_refused(result, "reached through a connection pooler", "connect directly")
            with pytest.raises(UnsuitableServerError, match="connect directly"):
                asyncio.run(connect_async(portal))
            with psycopg.connect(portal, autocommit=True) as application:
                assert application.execute(OURS).fetchone() == before, "of the same process"

    # Nor is a course's database reached through one, whoever has written that down.
    with pooler(site.course_server, folder, "transaction") as port:
        database = make_conninfo(site.new_database(), port=port)
        assert_refused(cli("course", "add", "B", database, portal=site.portal), "connect directly")
        pooled = make_conninfo(site.databases["A"], port=port)
        site.execute("update pysync.course set conninfo = %s", pooled)
        assert state_of(site, "A") == "unreachable"
        (found,) = (each.finding for each in examine(site.portal, CourseId("A")) if each.course_id)
        assert "is reached through a connection pooler" in found.cause
        assert "connect directly" in found.remedy


def stored(site: Site) -> dict[str, Any]:
    return conninfo_to_dict(site.one("select conninfo from pysync.course"))


@pytest.mark.newest("what our own library makes of a string")
def test_a_course_is_where_its_server_says_not_where_a_string_leads(
    site: Site, tmp_path: Path
) -> None:
    one, two = (site.new_database() for _ in range(2))
    services = tmp_path / "services"

    def define(**databases: str) -> None:
        lines = (
            f"[{name}]\n" + "\n".join(f"{k}={v}" for k, v in conninfo_to_dict(each).items())
            for name, each in databases.items()
        )
        services.write_text("\n".join(lines) + "\n")

    define(c1=one, c2=two)
    by_service: dict[str, Any] = {"PGSERVICEFILE": str(services)}
    enroll(site, insert_user(site, "ada"), "A")
    unknown = cli("course", "add", "A", "service=c3", portal=site.portal, **by_service)
    assert_refused(unknown, "connection string refused", "c3")
    succeed("course", "add", "A", "service=c1", portal=site.portal, **by_service)
    site.databases["A"] = one
    # What is stored says all of it.
    assert "service" not in stored(site)
    assert left_to_environment(site.one("select conninfo from pysync.course")) == []
    assert state_of(site, "A") == "streaming"

    # Another database by another service, by the same one, by variables.
    before = footprint(site.portal, one, two)
    others: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("service=c2",), {}),
        (("",), {"PGSERVICE": "c2"}),
        ((f"dbname={conninfo_to_dict(two)['dbname']}",), {"PGSERVICE": "c1"}),
    ]
    for arguments, variables in others:
        result = cli(
            "course", "add", "A", *arguments, portal=site.portal, **by_service, **variables
        )
        assert_refused(result, "course 'A' is elsewhere", "course move A CONNINFO")
    remove = ("course", "remove", "A", "--yes", "--conninfo", "service=c2")
    result = cli(*remove, portal=site.portal, **by_service)
    assert_refused(result, "isn't the one that course 'A' has")
    define(c1=two, c2=two)
    result = cli("course", "add", "A", "service=c1", portal=site.portal, **by_service)
    assert_refused(result, "course 'A' is elsewhere")
    assert footprint(site.portal, one, two) == before
    assert state_of(site, "A") == "streaming"

    # The same database in other words.
    define(same=one)
    result = cli("course", "move", "A", "service=same", portal=site.portal, **by_service)
    assert (result.returncode, result.stdout) == (
        0,
        "course 'A' hasn't moved: it is in that database already\n",
    )
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"}
    variables = {names[name]: str(value) for name, value in conninfo_to_dict(one).items()}
    variables["PGHOST"] = "localhost"
    said = succeed("course", "add", "A", "", portal=site.portal, **variables)
    assert "is streaming already" in said
    assert stored(site)["host"] == "localhost"
    assert state_of(site, "A") == "streaming"

    define(c2=two)
    moved = succeed(
        "course", "move", "A", "service=c2", "--fresh", portal=site.portal, **by_service
    )
    assert "its server reaches the portal by: host=" in moved
    site.databases["A"] = two
    assert state_of(site, "A") == "streaming"
    assert_live_rows(site, "A")


def told(site: Site) -> dict[str, Any]:
    """Return what a course's subscription says of the portal."""
    query = "select subconninfo from pg_subscription where subname = %s"
    (found,) = site.course("A").execute(query, (replication_name(site, "A"),)).fetchall()
    return conninfo_to_dict(found[0])


def test_a_subscription_knows_all_hosts_of_the_portal(site: Site, course_server: Cluster) -> None:
    # One that answers first and takes no writes, as a standby doesn't; another that doesn't answer.
    name = str(conninfo_to_dict(site.portal)["dbname"])
    decoy = course_server.create(name)
    site._created.append((course_server, decoy))
    with psycopg.connect(course_server.conninfo(), autocommit=True) as connection:
        connection.execute(f"alter database {name} set default_transaction_read_only = on")
    way = {
        "host": "127.0.0.1,127.0.0.1,localhost",
        "port": f"{course_server.executor.port},{free_port()},{site.portal_server.executor.port}",
        "target_session_attrs": "read-write",
        "channel_binding": "disable",
    }
    portal = make_conninfo(site.portal, application_name="mine", connect_timeout="9", **way)
    site.databases["A"] = site.new_database()
    enroll(site, insert_user(site, "ada"), "A")
    dry = cli("course", "add", "A", site.databases["A"], "--dry-run", portal=portal).stderr
    added = cli("course", "add", "A", site.databases["A"], portal=portal)
    assert added.returncode == 0, added.stderr
    for each in (dry, added.stderr):
        (line,) = (line for line in each.splitlines() if "reaches the portal by: " in line)
        printed = conninfo_to_dict(line.partition("by: ")[2])
        assert printed == {**way, "dbname": name, "user": "postgres"}
    assert told(site) == printed
    for command in (("status",), ("resync", "A"), ("verify",), ("course", "pause", "A")):
        succeed(*command, portal=portal)
    succeed("course", "resume", "A", portal=portal)
    site.wait()
    assert_live_rows(site, "A")
    assert told(site) == printed
    assert ways(portal) == []

    # One that was made when there was one host, or by hand, is told before the portal fails over.
    other = make_conninfo(site.portal, host="localhost")
    alter_subscription(site, "A", f"connection '{other}'")
    (found,) = ways(portal)
    assert "knows 1 of 3 hosts" in found.cause
    succeed(*shell_words(found.commands[0]), portal=portal)
    assert {k: v for k, v in told(site).items() if k != "channel_binding"} == {
        k: v for k, v in printed.items() if k != "channel_binding"
    }
    assert ways(portal) == []
    for by_hand, cause in (
        ("service=portal", "leaves service to the environment of the course's server"),
        (f"dbname={name} user=postgres port=1", "leaves host to the environment"),
        (make_conninfo(site.portal, host="a,b,c"), "takes a standby"),
    ):
        alter_subscription(site, "A", f"connection '{by_hand}'")
        (found,) = ways(portal)
        assert cause in found.cause


@pytest.mark.newest("the order in which we ask")
def test_a_host_that_says_nothing_is_waited_for_once(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = f"{silent.getsockname()[1]},{site.portal_server.executor.port}"
        way = {"host": "127.0.0.1,127.0.0.1", "port": ports, "connect_timeout": "2"}
        for _ in range(2):
            connect(make_conninfo(site.portal, **way)).close()
        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def shell_words(command: str) -> list[str]:
    """Return the arguments of a command of ours as a shell understands them."""
    script = f'pysync() {{ printf "%s\\n" "$@"; }}; {command}'
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def ways(portal: str) -> list[Finding]:
    """Return what doctor says of how portal and courses are reached."""
    found = [each.finding for each in examine(portal)]
    return [each for each in found if each.object.endswith((" to the portal", " string"))]


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_the_address_of_a_portal_is_changed_for_a_course(
    site: Site, course_server: Cluster
) -> None:
    site.add("A")
    enroll(site, insert_user(site, "ada"), "A")
    name = str(conninfo_to_dict(site.portal)["dbname"])
    old = f"port={free_port()}"
    new = f"host=localhost port={site.portal_server.executor.port}"
    decoy = course_server.create(name)
    site._created.append((course_server, decoy))
    wrong = f"host=localhost port={course_server.executor.port}"
    add = ("course", "add", "A", site.databases["A"], "--portal-conninfo")
    resync = ("resync", "A", "--portal-conninfo")

    def leave() -> None:
        """Have the portal move away: the subscription goes on asking for it where it was."""
        parameters = told(site) | {"host": "127.0.0.1", "port": old.partition("=")[2]}
        alter_subscription(site, "A", f"connection '{make_conninfo('', **parameters)}'")
        eventually(lambda: not site.one("select active from pg_replication_slots limit 1"))

    leave()
    before = footprint(site.portal, site.databases["A"])
    for command in (add, resync):
        refused(*command, wrong, portal=site.portal, word="isn't this portal")
        refused(*command, "port=1", portal=site.portal, word="can't reach the portal")
    assert footprint(site.portal, site.databases["A"]) == before
    said = cli(*add, new, portal=site.portal).stderr
    assert f"reaches the portal by: {new} dbname={name} user=postgres" in said
    assert state_of(site, "A") == "streaming"
    # What isn't said stays.
    succeed(*add[:-1], portal=site.portal)
    assert told(site)["host"] == "localhost"

    leave()
    drop_slot(site.connect(), replication_name(site, "A"))
    enroll(site, insert_user(site, "bob"), "A")
    refused(*add, new, portal=site.portal, word="has lost its slot")
    refused("resync", "A", portal=site.portal, word="set --portal-conninfo to how")
    succeed(*resync, new, portal=site.portal)
    site.wait()
    assert_live_rows(site, "A")
    assert state_of(site, "A") == "streaming"
    assert "host=localhost" in site.one("select portal_conninfo from pysync.course")


def refused(*command: str, portal: str, word: str) -> None:
    """A command is refused; what it did until then may be told before."""
    result = cli(*command, portal=portal)
    result.stderr = result.stderr[result.stderr.index("pysync: ") :]
    assert_refused(result, word)


@pytest.mark.newest("what we make of strings")
def test_what_is_written_down_leads_there_in_any_environment(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = site.portal_server
    host, port = "127.0.0.1", str(server.executor.port)
    folder = str(server.executor.unixsocketdir)
    odd = "per%cent & ümlaut"
    site._created.append((server, server.create(odd)))
    monkeypatch.chdir(tmp_path)
    services = {"PGSERVICEFILE": str(tmp_path / "services")}
    (tmp_path / "services").write_text(
        f"[p]\nhost={host}\nport={port}\ndbname=postgres\nuser=postgres\noptions=-c geqo=off\n"
    )
    here = {"host": host, "port": port, "dbname": "postgres", "user": "postgres"}
    variables = {f"PG{'DATABASE' if k == 'dbname' else k.upper()}": v for k, v in here.items()}
    escaped = odd.replace("%", "%25").replace(" ", "%20").replace("&", "%26").replace("ü", "%C3%BC")
    uri = f"postgresql://postgres@{host}:{port}/{escaped}?sslmode=allow"
    socket = f"postgresql://postgres@{folder.replace('/', '%2F')}:{port}/postgres"
    hostaddr = f"hostaddr={host} port={port} dbname=postgres user=postgres"
    cases: list[tuple[str, dict[str, str], dict[str, str]]] = [
        ("", variables, here),
        ("service=p", services, here | {"options": "-c geqo=off"}),
        ("dbname=template1", services | {"PGSERVICE": "p"}, here | {"dbname": "template1"}),
        # A service file counts for more than variables do.
        ("service=p", services | {"PGHOST": "192.0.2.1"}, here),
        (uri, {}, here | {"dbname": odd, "sslmode": "allow"}),
        (socket, {}, here | {"host": folder}),
        (f"port={port}", {"PGHOST": folder, "PGUSER": "postgres"}, {"dbname": "postgres"}),
        (hostaddr, {}, {"hostaddr": host, "dbname": "postgres"}),
        ("", variables | {"PGSSLROOTCERT": "ca.crt"}, {"sslrootcert": str(tmp_path / "ca.crt")}),
        ("passfile=mine", variables, {"passfile": str(tmp_path / "mine")}),
        ("", variables | {"PGPASSFILE": "/x/mine"}, {"passfile": "/x/mine"}),
        (
            "",
            variables | {"PGSSLMODE": "allow", "PGTARGETSESSIONATTRS": "primary"},
            here | {"sslmode": "allow", "target_session_attrs": "primary"},
        ),
        ("connect_timeout=6", variables | {"PGCONNECT_TIMEOUT": "7"}, {"connect_timeout": "6"}),
        ("password=gehe1m", variables | {"PGPASSWORD": "gehe1m"}, here),
        # What would have our sessions see something else, or in another encoding.
        ("options='-c search_path=public -csynchronous_commit=off'", variables, here),
        ("", variables | {"PGOPTIONS": "-c search_path=public"}, here),
        ("client_encoding=SQL_ASCII", variables, here),
        ("", variables | {"PGCLIENTENCODING": "LATIN1", "PGAPPNAME": "mine"}, here),
    ]
    for given, environment, expected in cases:
        with monkeypatch.context() as there:
            for name, value in environment.items():
                there.setenv(name, value)
            with closing(connect(given)) as connection:
                written = written_out(connection, given)
                place = identities.place(connection)
                assert fetch_value(connection, "show search_path") == "pg_catalog, pg_temp"
                assert fetch_value(connection, "select 'ü'::text") == "ü"
                assert fetch_value(connection, "show synchronous_commit") != "off"
                # Nothing that a statement has set could be left behind in a pooler's session.
                left = "select array_agg(name) from pg_settings where source = 'session'"
                unsafe = "synchronous_commit=off" in given
                assert fetch_value(connection, left) == (["synchronous_commit"] if unsafe else None)
        found = conninfo_to_dict(written)
        assert found | expected == found, (given, environment)
        assert left_to_environment(written) == [], given
        assert "gehe1m" not in written
        assert not found.keys() & {"service", "application_name", "client_encoding"}, given
        with closing(connect(written)) as connection:
            assert identities.place(connection) == place


@pytest.mark.newest("what we make of strings")
def test_what_a_course_takes_over_is_what_holds_for_its_server(site: Site, tmp_path: Path) -> None:
    port = site.portal_server.executor.port
    more = {
        "sslmode": "prefer",
        "sslrootcert": "/ca.crt",
        "sslcert": "/mine.crt",
        "sslkey": "/mine.key",
        "channel_binding": "disable",
        "keepalives_idle": "30",
        "options": "-c geqo=off",
        "application_name": "mine",
        "passfile": "/mine",
        "password": "gehe1m",
    }
    ours = make_conninfo(site.portal, **more | {"host": "::1,127.0.0.1", "port": f"1,{port}"})
    name = str(conninfo_to_dict(site.portal)["dbname"])
    hosts = {"host": "::1,127.0.0.1", "port": f"1,{port}", "dbname": name, "user": "postgres"}
    hosts["target_session_attrs"] = "read-write"
    tls = {"sslmode": "prefer", "sslrootcert": "/ca.crt"}
    ourself = {"sslcert": "/mine.crt", "sslkey": "/mine.key", "password": "gehe1m"}
    base = {"channel_binding": "disable", "keepalives_idle": "30"} | tls
    before = f"host=old port=9 dbname={name} user=replicator password=theirs"
    with closing(connect(ours)) as portal:
        for given, earlier, expected in (
            (None, None, hosts | base | ourself),
            ("", None, hosts | base | ourself),
            ("user=replicator", None, hosts | base | {"user": "replicator"}),
            ("password=x", None, hosts | base | ourself | {"password": "x"}),
            # Another host isn't reached by a list of ports.
            ("host=p", None, hosts | base | ourself | {"host": "p", "port": str(port)}),
            ("sslrootcert=/theirs", None, hosts | base | ourself | {"sslrootcert": "/theirs"}),
            (
                "service=p",
                None,
                {"service": "p", "dbname": name, "user": "postgres", "password": "gehe1m"},
            ),
            (None, before, conninfo_to_dict(before)),
            (
                "host=p,q port=7",
                before,
                conninfo_to_dict(before)
                | {"host": "p,q", "port": "7", "target_session_attrs": "read-write"},
            ),
            ("host=p port=7", before, conninfo_to_dict(before) | {"host": "p", "port": "7"}),
            ("user=other", before, {"host": "old", "port": "9", "dbname": name, "user": "other"}),
            ("", "user=replicator", hosts | {"user": "replicator"}),
        ):
            found = conninfo_to_dict(for_course(portal, ours, given, earlier))
            assert found == conninfo_to_dict(make_conninfo("", **expected)), (given, earlier)


@pytest.mark.newest("what we make of strings")
@pytest.mark.parametrize(
    ("theirs", "ours", "cause"),
    [
        ("host=a", "host=a", None),
        ("host=a,b", "host=a,b target_session_attrs=primary", "takes a standby"),
        ("host=a", "host=a,b target_session_attrs=primary", "knows 1 of 2 hosts"),
        ("dbname=x", "host=a,b target_session_attrs=primary", "knows none of 2 hosts"),
        ("host=x,y target_session_attrs=read-write", "host=a,b", None),
        ("service=p", "host=a,b sslmode=verify-full", None),
        ("host=a sslmode=verify-full", "host=a sslmode=require", None),
        ("host=a", "host=a sslmode=verify-full", "sslmode=prefer, not verify-full"),
    ],
)
def test_doctor_compares_how_a_course_and_we_reach_the_portal(
    theirs: str, ours: str, cause: str | None
) -> None:
    found = list(addresses._causes(conninfo_to_dict(theirs), conninfo_to_dict(ours), "the portal"))
    assert len(found) == (cause is not None)
    assert all(cause in each for each in found if cause)
