"""``pysync grants``: what a superuser runs once, so that pysync needs none."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pysync.diagnosis.grants import GRANTS
from tests.acceptance.test_cli_process import cli, footprint, succeed
from tests.conftest import GRANTED
from tests.support import Cluster, GrantedSite, Site, as_superuser, enroll, insert_user

PAGE = Path(__file__).parents[2] / "migrations/README.md"


def roles_findings(site: Site) -> list[dict[str, str]]:
    document = json.loads(cli("doctor", "--format", "json", portal=site.portal).stdout)
    return [each for each in document["findings"] if "which pysync uses" in each["object"]]


def test_the_page_lists_every_right() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for side, grants in GRANTS.items():
        for each in grants:
            row = f"| {side} | `{each.right}` | {each.why} | {each.since} |"
            assert row in page, f"add to migrations/README.md: {row}"


@pytest.mark.newest("what is printed, whatever the server")
@pytest.mark.parametrize("side", ["portal", "course"])
def test_what_is_printed_runs_for_any_role(side: str, portal_server: Cluster) -> None:
    role, database = """it's a "role" {0} %s""", """six "oh" 02's"""
    printed = succeed("grants", side, role, "--database", database)
    document = json.loads(succeed("grants", side, role, "--database", database, "--format", "json"))
    assert [
        each["statement"] for each in document["grants"] if each["statement"] not in printed
    ] == []
    assert document["owners"] in printed
    conninfo = portal_server.create(database)
    try:
        with psycopg.connect(conninfo) as connection:
            name = sql.Identifier(role)
            connection.execute(sql.SQL("create role {} login").format(name))
            connection.execute(printed.encode())
            granted = connection.execute(
                "select has_database_privilege(%s, current_database(), 'create'),"
                " pg_has_role(%s, 'pg_monitor', 'usage')",
                (role, role),
            ).fetchone()
            assert granted == (True, True)
            connection.rollback()
    finally:
        portal_server.drop(conninfo)


REFUSED_WITHOUT_ROLES = [("resync", "A"), ("course", "remove", "A", "--yes")]


@pytest.mark.also_granted("what it takes")
@pytest.mark.newest("what is refused, whatever the server")
def test_a_merge_that_could_not_be_finished_is_not_begun(site: Site, rights: str) -> None:
    site.add("A")
    parameter = "parameter session_replication_role"
    with psycopg.connect(as_superuser(site.databases["A"]), autocommit=True) as superuser:
        if rights == GRANTED:
            superuser.execute(f"revoke set on {parameter} from granted")
            before = footprint(site.portal, site.databases["A"])
            refused = cli("resync", "A", portal=site.portal)
            assert refused.returncode == 1
            lacks = "can't be merged: role 'granted' lacks SET session_replication_role"
            assert lacks in refused.stderr
            assert footprint(site.portal, site.databases["A"]) == before
            statement = refused.stderr.splitlines()[-1].partition("pg_temp; ")[2]
            superuser.execute(statement.encode())
    succeed("resync", "A", portal=site.portal)
    if rights != GRANTED:
        return
    for place, roles, commands in (
        (site.portal, "pysync_fan_out, pysync_owner", REFUSED_WITHOUT_ROLES),
        (site.databases["A"], "pysync_course", REFUSED_WITHOUT_ROLES[:1]),
    ):
        with psycopg.connect(as_superuser(place), autocommit=True) as superuser:
            superuser.execute(f"revoke {roles} from granted".encode())
            before = footprint(site.portal, site.databases["A"])
            for command in commands:
                refused = cli(*command, portal=site.portal)
                assert refused.returncode == 1
                assert "role 'granted' lacks membership in pysync's own role" in refused.stderr
            assert footprint(site.portal, site.databases["A"]) == before
            statement = refused.stderr.splitlines()[-1].partition("pg_temp; ")[2]
            superuser.execute(statement.encode())
    succeed("resync", "A", portal=site.portal)


@pytest.mark.also_granted("the whole commands")
@pytest.mark.newest("what it takes, whatever the server")
def test_what_differs_is_found_and_mended(site: Site) -> None:
    site.add("A")
    enroll(site, insert_user(site, "ada"), "A")
    site.wait()
    with psycopg.connect(as_superuser(site.databases["A"])) as connection:
        connection.execute("set local session_replication_role = replica")
        connection.execute("delete from course.student_courseenrollment")
    assert "1 is missing in the course" in cli("verify", portal=site.portal).stdout
    assert "1 row" in succeed("repair", "A", portal=site.portal)
    with psycopg.connect(as_superuser(site.portal)) as connection:
        connection.execute("set local session_replication_role = replica")
        connection.execute("delete from course.auth_user")
    assert "1 row" in succeed("rebuild", portal=site.portal)
    succeed("verify", portal=site.portal)


@pytest.mark.newest("what is asked of catalogs, whatever the server")
def test_doctor_names_what_is_missing_and_what_is_too_much(
    site: Site, granted_template: str, portal_server: Cluster, course_server: Cluster
) -> None:
    too_much = roles_findings(site)
    assert ["none is needed" in each["cause"] for each in too_much] == [True]
    granted = GrantedSite(portal_server, course_server, granted_template)
    try:
        granted.add("A")
        assert roles_findings(granted) == []
        with psycopg.connect(portal_server.conninfo(), autocommit=True) as superuser:
            superuser.execute("revoke pg_monitor from granted")
        with psycopg.connect(granted.databases["A"], user="postgres", autocommit=True) as superuser:
            superuser.execute("revoke set on parameter session_replication_role from granted")
            missing = roles_findings(granted)
            assert ["lacks pg_monitor on the portal" in each["cause"] for each in missing] == [
                True,
                False,
            ]
            assert "SET session_replication_role" in missing[1]["cause"]
            for each in missing:
                _, _, statement = each["remedy"].partition(": ")
                where = granted.databases["A"] if each["course_id"] else portal_server.conninfo()
                with psycopg.connect(where, user="postgres", autocommit=True) as connection:
                    connection.execute(statement.encode())
        assert roles_findings(granted) == []
    finally:
        granted.close()
