"""Connections between machines are to be encrypted, and to know who is at the other end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pysync.db.connections import connect, fetch_value
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.watching.doctor import examine, tls
from tests.acceptance.test_cli_process import cli, succeed
from tests.conftest import start_server
from tests.support import Cluster, Site, missing

MODES = [
    ("", None),
    ("host=/run/postgresql", None),
    ("host=127.0.0.1", None),
    ("host=::1 sslmode=disable", None),
    ("host=localhost", None),
    ("hostaddr=127.0.0.1 host=portal.example.org", None),
    ("service=portal", None),
    ("host=portal.example.org sslmode=verify-full", None),
    ("host=portal.example.org", "prefer"),
    ("host=portal.example.org sslmode=verify-ca", "verify-ca"),
    ("host=localhost,10.1.2.3 sslmode=require", "require"),
    ("hostaddr=10.1.2.3 host=localhost", "prefer"),
]


@pytest.mark.parametrize(("conninfo", "mode"), MODES)
def test_a_weak_mode_matters_between_machines(conninfo: str, mode: str | None) -> None:
    assert tls._weak_mode(conninfo) == mode


@pytest.fixture
def tls_server(major: int, folder: Path) -> Iterator[tuple[Cluster, Path | None]]:
    """A server with a certificate for 127.0.0.1; some wheels' servers are built without TLS."""
    cluster = start_server(major, folder, "tls")
    data = Path(cluster.executor.datadir)
    certificate = None
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        if fetch_value(connection, "select current_setting('ssl_library')"):
            certificate = data / "server.crt"
            subprocess.run(
                [
                    *(shutil.which("openssl") or missing("openssl", "openssl"), "req", "-x509"),
                    *("-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=portal"),
                    *("-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate)),
                    *("-keyout", str(data / "server.key")),
                ],
                check=True,
                capture_output=True,
            )
            for file in (certificate, data / "server.key"):
                file.chmod(0o600)
                os.chown(file, data.stat().st_uid, data.stat().st_gid)
            connection.execute("alter system set ssl = on")
            connection.execute("select pg_reload_conf()")
    yield cluster, certificate
    cluster.executor.stop()


def without_tls(portal: str) -> set[str]:
    found = [each.finding for each in examine(portal)]
    assert not any(each.must for each in found if "TLS" in each.cause)
    return {each.object for each in found if "TLS" in each.cause}


@pytest.mark.newest("what is looked at is the same everywhere")
def test_doctor_names_connections_without_tls(
    tls_server: tuple[Cluster, Path | None],
    course_server: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, certificate = tls_server
    site = Site(server, course_server, server.create())
    site.portal = make_conninfo(site.portal, sslmode="disable")
    migrate(site.portal, PORTAL, "portal")
    site.add("A")
    ours, theirs = "pysync's connection to the portal", "course 'A' connection to the portal"
    to_course = "pysync's connection to the course server"
    assert without_tls(site.portal) == set(), "nobody is between a machine and itself"

    # Now this machine counts as another one.
    monkeypatch.setattr(tls, "LOCAL_NETWORKS", [])
    assert without_tls(site.portal) == {ours, to_course, theirs}
    if certificate is not None:
        root = tls_root(certificate)
        verified = make_conninfo(site.portal, sslmode="verify-full", sslrootcert=root)
        with connect(verified) as connection:  # as soon as the server has read its settings
            assert fetch_value(
                connection, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
            )
        # Where there is no certificate: the server's account can't look into root's home.
        way = f"sslmode=verify-full sslrootcert={root} sslcert={root}.none"
        succeed(
            *("course", "add", "A", site.databases["A"], "--portal-conninfo", way), portal=verified
        )
        site.wait()
        assert without_tls(verified) == {to_course}

        # Another course takes it over from us; files are those of its server.
        site.portal = make_conninfo(verified, sslcert=f"{root}.none")
        nowhere = ("--portal-conninfo", f"sslrootcert={root}.none")
        refused = cli("course", "add", "B", site.new_database(), *nowhere, portal=site.portal)
        assert f"{root}.none" in refused.stderr
        assert "sslrootcert" in refused.stderr.partition("being files of that server")[0]
        said = site.add("B").course.portal_conninfo
        assert f"sslcert={root}.none sslmode=verify-full sslrootcert={root}" in said
        site.wait()
        assert without_tls(verified) == {to_course}
    site.close()


def tls_root(certificate: Path) -> str:
    """Copy a certificate to where every server's account may read it."""
    copy = certificate.parent.parent / "root.crt"
    shutil.copyfile(certificate, copy)
    copy.chmod(0o644)
    return str(copy)
