"""A copy of a portal, or of a course's database, doesn't act on the original."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pysync.demo.servers import Server, identity, make_folder
from tests.acceptance.test_cli_move import copy_database
from tests.acceptance.test_cli_process import (
    OwnCluster,
    cli,
    footprint,
    own_servers,
    read_json,
    succeed,
)
from tests.conftest import INSTALLATIONS
from tests.support import Site, assert_live_rows, enroll, insert_user

pytestmark = pytest.mark.oldest_and_newest(
    "what tells a server and a database from others, and what a dump takes along"
)

ACTIONS = (
    ("course", "pause", "A"),
    ("course", "resume", "A"),
    ("course", "remove", "A", "--yes"),
    ("course", "remove", "A", "--yes", "--force"),
    ("resync", "A"),
    ("repair", "A"),
    ("verify", "A"),
    ("wait", "A"),
    ("migrate",),
    ("migrate", "course", "A"),
)


@pytest.fixture
def original(site: Site) -> Site:
    """A portal with a course that streams, and a member."""
    site.add("A")
    enroll(site, insert_user(site, "ada"), "A")
    site.wait()
    return site


def restored(site: Site) -> str:
    """Restore a dump of the portal beside it, as for a staging system."""
    copy = site.new_database(site.portal_server)
    _dump_into(site, site.portal, copy)
    return copy


def _dump_into(site: Site, source: str, target: str) -> None:
    bindir = INSTALLATIONS[site.portal_server.major].bindir
    dump = subprocess.run(
        [str(bindir / "pg_dump"), "--dbname", source], check=True, capture_output=True
    ).stdout
    psql = [str(bindir / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "--dbname", target]
    subprocess.run(psql, input=dump, check=True, capture_output=True)


def copied(site: Site) -> str:
    """Copy the course's database, as a dump does: its subscription is disabled."""
    succeed("course", "pause", "A", portal=site.portal)
    copy = copy_database(site, "A", site.course_server)
    succeed("course", "resume", "A", portal=site.portal)
    return copy


@pytest.mark.newest("how a portal knows itself is ours")
def test_a_restored_dump_of_the_portal_acts_on_no_course(original: Site) -> None:
    site = original
    copy = restored(site)
    insert_user(site, "bob")
    before = footprint(site.portal, site.databases["A"])

    for action in ACTIONS:
        result = cli(*action, portal=copy)
        assert result.returncode == 1, action
        told = " ".join((result.stdout + result.stderr).split())
        assert "is a copy, or was moved" in told, action
        assert "pysync portal claim" in told, action
    moved = cli("course", "move", "A", site.new_database(), "--fresh", "--force", portal=copy)
    assert "is a copy, or was moved" in moved.stderr
    added = cli("course", "add", "B", site.new_database(), portal=copy)
    assert "is a copy, or was moved" in added.stderr
    with psycopg.connect(copy, autocommit=True) as connection:
        connection.execute("update pysync.setting set enabled = true")
        with pytest.raises(psycopg.Error) as refused:
            connection.execute("select pysync.claim_users(1, 1)")
        assert refused.value.sqlstate == "PY009"

    table = succeed("status", portal=copy)
    assert table.startswith("portal ")
    assert "is a copy, or was moved" in table.splitlines()[0] + table.splitlines()[1]
    document = read_json("status", portal=copy)
    assert document["unclaimed"]["commands"] == ["pysync portal claim"]
    assert document["courses"][0]["remedy"] is None
    assert cli("status", "--check", portal=copy).returncode == 2
    assert "pysync_unclaimed 1.0" in succeed("status", "--format", "prometheus", portal=copy)
    assert "is a copy, or was moved" in cli("doctor", portal=copy).stdout

    assert footprint(site.portal, site.databases["A"]) == before
    assert read_json("status", portal=site.portal)["unclaimed"] is None
    assert read_json("status", portal=site.portal)["courses"][0]["state"] == "streaming"


@pytest.mark.newest("identities are rows of ours; what a dump takes along is tested on both ends")
def test_a_portal_that_was_moved_goes_on_once_it_is_claimed(original: Site) -> None:
    site = original
    copy = restored(site)
    refused = cli("portal", "claim", portal=copy)
    assert refused.returncode == 2
    assert "each take the courses from the other" in " ".join(refused.stderr.split())
    assert "claimed" in succeed("portal", "claim", "--yes", portal=copy)
    # The course still hears from the other one.
    result = cli("resync", "A", portal=copy)
    assert result.returncode == 1
    assert "follows another server" in result.stderr

    site.portal_server.drop(site.portal)
    old, new = (conninfo_to_dict(each)["dbname"] for each in (site.portal, copy))
    with psycopg.connect(site.portal_server.conninfo(), autocommit=True) as connection:
        connection.execute(f"alter database {new} rename to {old}")
    enroll(site, insert_user(site, "bob"), "A")
    succeed("resync", "A", portal=site.portal)
    site.wait()
    assert_live_rows(site, "A")
    (course,) = read_json("status", portal=site.portal)["courses"]
    assert (course["state"], course["drift"]) == ("streaming", []), course
    assert "nothing to do" in succeed("portal", "claim", "--yes", portal=site.portal)


@pytest.mark.newest("identities are rows of ours; what a dump takes along is tested on both ends")
def test_a_copy_that_goes_its_own_way_leaves_courses_alone(original: Site) -> None:
    site = original
    copy, own = restored(site), copied(site)
    refused = cli("portal", "claim", "--copy", "--yes", portal=site.portal)
    assert refused.returncode == 1
    assert "isn't a copy: course 'A' is connected" in refused.stderr

    before = footprint(site.portal, site.databases["A"])
    told = succeed("portal", "claim", "--copy", "--yes", portal=copy)
    assert "1 courses of the original forgotten" in told
    assert read_json("course", "list", portal=copy)["courses"] == []
    taken = cli("course", "add", "A", site.databases["A"], portal=copy)
    assert taken.returncode == 1
    assert "is course 'A''s of another portal" in taken.stderr
    # Of its own it takes a copy of the course's database.
    succeed("course", "add", "A", own, "--adopt", "--yes", portal=copy)
    (course,) = read_json("status", portal=copy)["courses"]
    assert course["state"] == "streaming", course
    # Were it registered with the original's, it would be refused.
    with psycopg.connect(copy, autocommit=True) as connection:
        connection.execute("update pysync.course set conninfo = %s", (site.databases["A"],))
    for action in (*ACTIONS[:3], *ACTIONS[4:8]):
        result = cli(*action, portal=copy)
        assert result.returncode == 1, action
        told = " ".join((result.stdout + result.stderr).split())
        assert "belongs to another portal" in told, action
    (course,) = read_json("status", portal=copy)["courses"]
    assert course["state"] == "unreachable"
    assert "belongs to another portal" in course["cause"]
    succeed("course", "remove", "A", "--yes", "--conninfo", own, portal=copy)

    assert footprint(site.portal, site.databases["A"]) == before
    enroll(site, insert_user(site, "bob"), "A")
    site.wait()
    assert_live_rows(site, "A")


@pytest.mark.newest("identities are rows of ours; what a dump takes along is tested on both ends")
def test_a_copy_of_a_courses_database_is_not_taken_for_it(original: Site) -> None:
    site = original
    copy = copied(site)
    names = [str(conninfo_to_dict(each)["dbname"]) for each in (site.databases["A"], copy)]
    # Somebody has exchanged the two, or the name leads to a restored backup.
    site.execute("update pysync.course set conninfo = %s", copy)
    before = footprint(site.portal, site.databases["A"], copy)
    for action in (*ACTIONS[:3], ("resync", "A"), ("repair", "A"), ("verify", "A"), ("wait", "A")):
        result = cli(*action, portal=site.portal)
        assert result.returncode == 1, action
        told = " ".join((result.stdout + result.stderr).split())
        assert "is a copy of the one that was added, or was moved" in told, action
        assert "pysync course move A CONNINFO" in told, action
    assert names[0] != names[1]
    # It doesn't say first that its subscription, as a dump brings it, is disabled.
    (course,) = read_json("status", portal=site.portal)["courses"]
    assert course["state"] == "drifted"
    assert course["commands"] == ["pysync course move A CONNINFO"]
    assert footprint(site.portal, site.databases["A"], copy) == before


@pytest.fixture
def own_site(major: int, folder: Path) -> Iterator[Site]:
    """The same on servers that nobody else needs."""
    with own_servers(major, folder, "copies", "A") as site:
        enroll(site, insert_user(site, "ada"), "A")
        site.wait()
        yield site


@contextmanager
def cloned(site: Site, folder: Path) -> Iterator[tuple[Server, Server]]:
    """Start a copy of the portal's server: its files, as they were."""
    original = site.portal_server
    assert isinstance(original, OwnCluster)
    home = make_folder(folder / f"copies-clone-{original.major}")
    server = Server(original.server.installation, home, original.server.settings)
    with psycopg.connect(original.conninfo(), autocommit=True) as connection:
        begin = connection.execute("select pg_backup_start('clone', true)").fetchone()
        assert begin is not None
        shutil.copytree(original.server.data, server.data)
        (label, _) = connection.execute(
            "select labelfile, spcmapfile from pg_backup_stop(false)"
        ).fetchone() or ("", "")
    (server.data / "backup_label").write_text(label, encoding="utf-8")
    # The rest of the WAL, which the copy ends in the middle of.
    shutil.copytree(original.server.data / "pg_wal", server.data / "pg_wal", dirs_exist_ok=True)
    (server.data / "postmaster.pid").unlink()
    if user := identity():
        for path in (server.data, *server.data.rglob("*")):
            os.chown(path, int(user["user"]), int(user["group"]), follow_symlinks=False)
    server.start()
    try:
        yield original.server, server
    finally:
        server.stop()


@pytest.mark.newest("processes and slots, as they are on every server")
def test_a_cloned_server_takes_no_course_from_the_original(own_site: Site, folder: Path) -> None:
    site = own_site
    with cloned(site, folder) as (original, server):
        clone = server.conninfo(str(conninfo_to_dict(site.portal)["dbname"]))
        before = footprint(site.portal, site.databases["A"])
        for action in ACTIONS[:5]:
            result = cli(*action, portal=clone)
            assert result.returncode == 1, action
            assert "follows another server" in result.stderr, action
        assert footprint(site.portal, site.databases["A"]) == before
        # The original dies: what was its clone, or its promoted standby, is the portal.
        original.stop("immediate")
        server.stop()
        server.port = original.port
        server.start()
        succeed("resync", "A", portal=site.portal)
