"""A promoted standby that has none of the slots: one command brings every course back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pysync.watching.doctor import examine
from tests.acceptance.test_cli_process import OwnCluster, cli, courses_of, launch, succeed
from tests.acceptance.test_cli_resync import assert_equal_to_the_fan_out
from tests.conftest import PORTALS
from tests.servers import standby_of
from tests.support import (
    PORTAL_TEMPLATE,
    Cluster,
    Site,
    assert_live_rows,
    enroll,
    eventually,
    insert_user,
)

pytestmark = pytest.mark.oldest("from 17 on slots are synchronized to standbys")

COURSES = ["A", "B", "C"]


@pytest.fixture
def primary(major: int, folder: Path) -> Iterator[OwnCluster]:
    cluster = OwnCluster.start(major, folder, "primary", PORTALS)
    yield cluster
    cluster.server.stop("immediate")


@pytest.fixture
def standby(primary: OwnCluster, folder: Path) -> Iterator[OwnCluster]:
    """A streaming standby."""
    with standby_of(primary.server, folder, "standby") as server:
        yield OwnCluster(server, primary.major)


@pytest.fixture
def site(primary: OwnCluster, standby: OwnCluster, course_server: Cluster) -> Iterator[Site]:
    """A portal that is reached wherever it takes writes."""
    ports = ",".join(str(each.server.port) for each in (primary, standby))
    both = {"host": "127.0.0.1,127.0.0.1", "port": ports, "target_session_attrs": "read-write"}
    portal = make_conninfo(primary.create(template=PORTAL_TEMPLATE), **both)
    site = Site(primary, course_server, portal)
    yield site
    site.portal_server = standby
    site.close()


@pytest.mark.timeout(180)
def test_one_command_brings_all_courses_back(
    site: Site, primary: OwnCluster, standby: OwnCluster
) -> None:
    users = [insert_user(site, f"user{n}") for n in range(9)]
    for n, course_id in enumerate(COURSES):
        site.add(course_id)
        for user in users[n : n + 6]:
            enroll(site, user, course_id)
    # It is told before.
    for each in courses_of("status", portal=site.portal).values():
        assert each["failover_ready"] is False
        assert "has no slots that fail over" in each["failover_cause"]
    told = [each.finding for each in examine(site.portal) if "standby" in each.finding.object]
    assert [each.commands for each in told] == [("pysync resync --all",)]
    succeed("course", "pause", "C", portal=site.portal)
    with closing(psycopg.connect(standby.conninfo(), autocommit=True)) as replica:
        written = site.one("select pg_current_wal_lsn()")
        replayed = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"
        eventually(lambda: replica.execute(replayed, (written,)).fetchone() == (True,))
        site.close_connections()
        primary.kill()
        replica.execute("select pg_promote()")
    eventually(lambda: site.one("select not pg_is_in_recovery()"))
    site.execute("update auth_user set email = 'after@example.org' where username = 'user4'")
    enroll(site, insert_user(site, "late"), "B")
    lost = {i: each["state"] for i, each in courses_of("status", portal=site.portal).items()}
    assert lost == dict.fromkeys(COURSES, "lost")

    done = r"course '(.)' resynchronised: .*\n"
    with launch("resync", "--all", "--jobs", "1", portal=site.portal) as killed:
        first = re.fullmatch(done, killed.stdout.readline())
        killed.kill()
    assert first is not None
    # What has come back is left alone.
    said = cli("resync", "--all", portal=site.portal, timeout=60)
    assert said.returncode == 0, said.stderr
    assert sorted([first[1], *re.findall(done, said.stdout)]) == COURSES
    for course_id in COURSES:
        assert_equal_to_the_fan_out(site, course_id)
        assert_live_rows(site, course_id)
    found = courses_of("status", portal=site.portal)
    assert {each["state"] for each in found.values()} == {"streaming"}

    # Nor is one that somebody has paused since, unless it is named.
    succeed("course", "pause", "C", portal=site.portal)
    assert "nothing to resynchronise" in succeed("resync", "--all", portal=site.portal)
    said = cli("resync", "B", "C", "--dry-run", portal=site.portal)
    assert said.stdout.splitlines()[-1] == "dry run: nothing was changed"
    assert "course 'C' would be resynchronised: it was equal" in said.stdout
