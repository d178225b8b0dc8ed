"""Zones of trust: what the credentials of a course that streams from a relay can get at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.acceptance.test_cli_process import OwnCluster, cli, read_json, succeed
from tests.support import Site, enroll, insert_user

pytestmark = pytest.mark.oldest_and_newest("what a role that may replicate is let do")

ZONE = "zone_north"
FEEDER_PASSWORD = "only the relay knows"

FORBIDDEN = (
    "select from course.installed",
    "select from course.this_course",
    "insert into course.mark (id, course_id, number, marked_at) values (1, 'A', 9, now())",
    "update course.auth_user set email = ''",
    "delete from course.student_courseenrollment",
    "truncate course.auth_user",
    "select from course.auth_user for update",
    "create table course.mine ()",
    "create table public.mine ()",
    "create schema mine",
    "create publication mine for all tables",
    "create subscription mine connection '' publication mine with (connect = false)",
    "call course.take_over()",
    "select subconninfo from pg_subscription",
    "select * from pg_read_file('postgresql.conf')",
    "copy course.auth_user to program 'cat'",
    "set session_replication_role = replica",
    "set role postgres",
    "set role pysync_course",
    "alter role current_user superuser",
    "alter system set wal_level = replica",
)


@pytest.fixture
def north(site: Site, major: int, folder: Path) -> Iterator[OwnCluster]:
    """A relay on a server of its own, for courses A and B; C streams from the portal."""
    server = OwnCluster.start(major, folder, "north")
    feeder = f"feeder_{conninfo_to_dict(site.portal)['dbname']}"
    site.execute(f"create role {feeder} login replication password '{FEEDER_PASSWORD}'")
    relay = server.create("north")
    with closing(site.connect(relay)) as there:
        there.execute(f"create role {ZONE} login replication")
    succeed(
        *("relay", "add", "north", relay, "--portal-conninfo", f"user={feeder}"),
        portal=site.portal,
        PYSYNC_SUBSCRIPTION_PASSWORD=FEEDER_PASSWORD,
    )
    for course in ("A", "B", "C"):
        way = ("--via", "north", "--portal-conninfo", f"user={ZONE}") if course != "C" else ()
        site.databases[course] = site._course_database(course)
        succeed("course", "add", course, site.databases[course], *way, portal=site.portal)
        enroll(site, insert_user(site, f"member_{course}"), course)
    site.wait()
    yield server
    server.server.stop("immediate")
    site.execute(f"drop owned by {feeder}; drop role {feeder}")


def base_backup(conninfo: str, replication: str) -> bytes:
    """Take a base backup of a server, as pg_basebackup does."""
    received = bytearray()
    with closing(psycopg.connect(make_conninfo(conninfo, replication=replication))) as connection:
        raw = connection.pgconn
        raw.send_query(b"BASE_BACKUP (CHECKPOINT 'fast', WAL false, MANIFEST 'no')")
        while (result := raw.get_result()) is not None:
            assert result.status != pq.ExecStatus.FATAL_ERROR, raw.error_message
            while result.status == pq.ExecStatus.COPY_OUT:
                size, data = raw.get_copy_data(0)
                if size < 0:
                    break
                received += bytes(data)
    return bytes(received)


def streamed(zone: psycopg.Connection[Any], slot: str, publications: str) -> bytes:
    query = (
        "select data from pg_logical_slot_get_binary_changes(%s, null, null, 'proto_version', '1',"
        " 'publication_names', %s)"
    )
    return b"".join(data for (data,) in zone.execute(query, (slot, publications)))


def test_credentials_of_a_zone_reach_what_its_relay_carries_and_no_more(
    site: Site, north: OwnCluster
) -> None:
    relay = north.conninfo("north", user=ZONE)
    with pytest.raises(psycopg.OperationalError, match=f'role "{ZONE}" does not exist'):
        site.connect(user=ZONE)
    with closing(psycopg.connect(relay, autocommit=True)) as zone:
        # By SQL: to read what the relay carries, and nothing else.
        for statement in FORBIDDEN:
            with pytest.raises(
                (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue)
            ):
                zone.execute(statement)
        names = zone.execute("select username from course.auth_user order by 1").fetchall()
        assert names == [("member_A",), ("member_B",)]
        callable_ = zone.execute(
            "select oid::regprocedure::text from pg_proc where pronamespace = 'course'::regnamespace"
            " and has_function_privilege(oid, 'execute')"
        ).fetchall()
        assert callable_ == []
        # By slots of its own: every publication there is, also together.
        found = zone.execute("select pubname from pg_publication").fetchall()
        assert len(found) == 2
        publications = ",".join(f'"{name}"' for (name,) in found)
        for slot, temporary in (("mine", False), ("for_now", True)):
            zone.execute(
                "select pg_create_logical_replication_slot(%s, 'pgoutput', %s)", (slot, temporary)
            )
        site.execute("update public.auth_user set email = username || '@changed.example'")
        site.wait()
        for slot in ("mine", "for_now"):
            changes = streamed(zone, slot, publications)
            assert b"member_A@changed" in changes
            assert b"member_B@changed" in changes
            assert b"member_C" not in changes
            zone.execute("select pg_drop_replication_slot(%s)", (slot,))
    # By base backups, which no line of pg_hba.conf forbids who may stream: all of the server.
    for replication in ("true", "database"):
        backup = base_backup(relay, replication)
        assert b"member_A@changed" in backup
        assert b"member_C" not in backup
        # So what the server keeps of the portal is the zone's, too: see the finding below.
        assert FEEDER_PASSWORD.encode() in backup


@pytest.mark.newest("what we say")
def test_doctor_lists_what_a_zone_can_read(site: Site, north: OwnCluster) -> None:
    zone = read_json("doctor", "--zone", "north", portal=site.portal)
    assert (zone["zone"], zone["courses"]) == ("relay:north", ["A", "B"])
    roles = {each["role"]: each for each in zone["roles"]}
    of_zone = roles.pop(ZONE)
    assert any("host replication 127.0.0.1 trust" in line for line in of_zone.pop("admitted"))
    assert of_zone == {
        "role": ZONE,
        "used_by": ["A", "B"],
        "streams": ["A", "B"],
        "selects": ["A", "B"],
        "by": ["replication", "select"],
    }
    # Whoever has no part in the zone and reads it nevertheless is on the list.
    assert roles.pop("postgres")["by"] == ["superuser"]
    assert roles == {}
    (password,) = zone["findings"]
    assert "keeps the password of 'feeder_" in password["cause"]
    assert not password["must"]
    # What widens the zone is a finding.
    with closing(site.connect(north.conninfo("north"))) as there:
        there.execute(f"alter role {ZONE} bypassrls; grant pg_read_all_data to {ZONE}")
        there.execute("create database neighbour")
    found = cli("doctor", "--zone", "north", "--format", "json", portal=site.portal)
    assert found.returncode == 1
    texts = [f"{each['object']} {each['cause']}" for each in json.loads(found.stdout)["findings"]]
    assert any(ZONE in each and "by bypassrls, pg_read_all_data" in each for each in texts), texts
    assert any("'neighbour'" in each and "a base backup has them" in each for each in texts), texts
    shown = cli("doctor", "--zone", "north", portal=site.portal)
    assert ZONE in shown.stdout
    assert "have them on another server" in shown.stdout
    # The portal's zone is that of C's server and of the relay's.
    portal = json.loads(
        cli("doctor", "--zone", "portal", "--format", "json", portal=site.portal).stdout
    )
    (feeder,) = (each for each in portal["roles"] if each["role"].startswith("feeder_"))
    assert feeder["used_by"] == ["relay:north"]
    assert (feeder["streams"], feeder["selects"]) == (["A", "B", "C"], ["A", "B"])
    with closing(site.connect(user=feeder["role"])) as there:
        names = there.execute("select distinct course_id from course.student_courseenrollment")
        assert sorted(names.fetchall()) == [("A",), ("B",)]
