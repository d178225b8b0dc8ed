"""``pysync migrate``: what is migrated, in which order, and what is only printed."""

from __future__ import annotations

import psycopg
import pytest

from pysync.migrate import head_revision
from pysync.migrate.lineage import COURSE, PORTAL
from tests.acceptance.test_cli_process import (
    assert_refused,
    cli,
    footprint,
    launch,
    read_json,
    register_unreachable,
    succeed,
)
from tests.support import Cluster, Site

pytestmark = pytest.mark.newest("commands around the revisions, which run on every version")

PORTAL_HEAD = head_revision(PORTAL)
COURSE_HEAD = head_revision(COURSE)


def register(site: Site, course_id: str, conninfo: str) -> None:
    """Register a database that isn't migrated, as after an upgrade of pysync."""
    site.execute(
        "insert into pysync.course (course_id, replication_name, conninfo, portal_conninfo,"
        " replication_role) values (%s, 'unused_' || md5(%s), %s, '', '')",
        course_id,
        course_id,
        conninfo,
    )


def test_all_is_the_default_and_a_second_run_finds_nothing_to_do(site: Site) -> None:
    portal = site.new_database(site.portal_server)
    assert succeed("migrate", portal=portal) == f"portal: base -> {PORTAL_HEAD}\n"
    before = footprint(portal)
    for arguments in (("migrate",), ("migrate", "all"), ("migrate", "portal")):
        assert succeed(*arguments, portal=portal) == f"portal: at {PORTAL_HEAD} already\n"
    assert footprint(portal) == before


def test_courses_are_upgraded_before_the_portal(site: Site) -> None:
    for course_id in ("B", "A"):
        register(site, course_id, site.new_database())
    assert succeed("migrate", portal=site.portal).splitlines() == [
        f"A: base -> {COURSE_HEAD}",
        f"B: base -> {COURSE_HEAD}",
        f"portal: at {PORTAL_HEAD} already",
    ]
    assert succeed("migrate", "course", "A", portal=site.portal) == (
        f"A: at {COURSE_HEAD} already\n"
    )


def test_a_course_that_fails_leaves_the_portal_and_not_the_others(site: Site) -> None:
    register_unreachable(site, "A")
    database = site.new_database()
    register(site, "B", database)
    result = cli("migrate", portal=site.portal)
    assert result.returncode == 1
    assert result.stdout == f"B: base -> {COURSE_HEAD}\n"
    assert len(result.stderr.splitlines()) == 1
    assert "course 'A'" in result.stderr
    assert "portal left as it is" in result.stderr


@pytest.mark.also_granted("the whole command")
def test_down_to_base_and_up_again(site: Site) -> None:
    portal = site.new_database(site.portal_server)
    before = footprint(portal)
    succeed("migrate", "portal", portal=portal)
    migrated = footprint(portal)
    assert succeed("migrate", "portal", "--to", "base", portal=portal) == (
        f"portal: {PORTAL_HEAD} -> base\n"
    )
    assert footprint(portal) == before
    succeed("migrate", "all", "--to", "head", portal=portal)
    assert footprint(portal) == migrated


def run_script(conninfo: str, script: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(script.encode())


def test_sql_is_printed_and_not_run_and_does_the_same(site: Site) -> None:
    portal, twin = (site.new_database(site.portal_server) for _ in range(2))
    before = footprint(portal)
    script = succeed("migrate", "--sql", portal=portal)
    assert footprint(portal) == before
    run_script(portal, script)
    succeed("migrate", portal=twin)
    assert footprint(portal) == footprint(twin)
    assert succeed("migrate", "portal", portal=portal) == f"portal: at {PORTAL_HEAD} already\n"


def test_sql_of_a_downgrade_does_the_same(site: Site) -> None:
    portal = site.new_database(site.portal_server)
    before = footprint(portal)
    succeed("migrate", portal=portal)
    migrated = footprint(portal)
    script = succeed("migrate", "portal", "--to", "base", "--sql", portal=portal)
    assert footprint(portal) == migrated
    run_script(portal, script)
    assert footprint(portal) == before


def test_a_courses_sql_holds_its_id_whatever_it_is(site: Site) -> None:
    course_id = 'it\'s "50%" :x \\d $$ курс'
    database, twin = site.new_database(), site.new_database()
    register(site, course_id, database)
    script = succeed("migrate", "course", course_id, "--sql", portal=site.portal)
    run_script(twin, script)
    succeed("migrate", "course", course_id, portal=site.portal)
    assert footprint(twin)[4:7] == footprint(database)[4:7]
    for conninfo in (database, twin):
        with psycopg.connect(conninfo) as connection:
            row = connection.execute("select course_id from course.this_course").fetchone()
            assert row == (course_id,)


def test_status_says_where_each_database_is(site: Site) -> None:
    site.add("A")
    register(site, "B", site.new_database())
    register_unreachable(site, "C")
    document = read_json("migrate", "status", portal=site.portal)
    assert document["version"] == 1
    error = document["databases"][3].pop("error")
    assert "can't be reached" in error
    assert document["databases"] == [
        {
            "database": "portal",
            "current": PORTAL_HEAD,
            "head": PORTAL_HEAD,
            "pending": False,
            "error": None,
        },
        {
            "database": "A",
            "current": COURSE_HEAD,
            "head": COURSE_HEAD,
            "pending": False,
            "error": None,
        },
        {
            "database": "B",
            "current": None,
            "head": COURSE_HEAD,
            "pending": True,
            "error": None,
        },
        {"database": "C", "current": None, "head": COURSE_HEAD, "pending": None},
    ]
    lines = [line.split() for line in succeed("migrate", "status", portal=site.portal).splitlines()]
    assert ["portal", PORTAL_HEAD, PORTAL_HEAD, "no"] in lines
    assert ["B", "-", COURSE_HEAD, "yes"] in lines
    assert ["C", "-", COURSE_HEAD, "unknown"] in lines


def test_status_of_a_database_without_pysync(site: Site) -> None:
    portal = site.new_database(site.portal_server)
    assert read_json("migrate", "status", portal=portal)["databases"] == [
        {
            "database": "portal",
            "current": None,
            "head": PORTAL_HEAD,
            "pending": True,
            "error": None,
        }
    ]


def test_revisions_that_do_not_fit_are_refused(site: Site) -> None:
    site.add("A")
    before = footprint(site.portal, site.databases["A"])
    for arguments, words in (
        (("migrate", "--to", PORTAL_HEAD), ("one lineage", "migrate portal --to")),
        (("migrate", "--to", "base"), ("1 registered course", "course remove")),
        (("migrate", "portal", "--to", "p9999"), ("p9999", PORTAL_HEAD)),
        (("migrate", "portal", "--to", COURSE_HEAD), (COURSE_HEAD, PORTAL_HEAD)),
        (("migrate", "portal", "--to", "base"), ("registered", "course remove")),
        (("migrate", "course", "A", "--to", "base"), ("subscribed", "course remove")),
    ):
        assert_refused(cli(*arguments, portal=site.portal), *words)
    assert footprint(site.portal, site.databases["A"]) == before


def test_two_runs_at_once_take_turns(site: Site) -> None:
    portal = site.new_database(site.portal_server)
    processes = [launch("migrate", portal=portal) for _ in range(2)]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sorted(out for out, _ in said) == [
        f"portal: at {PORTAL_HEAD} already\n",
        f"portal: base -> {PORTAL_HEAD}\n",
    ]


def test_a_migration_never_waits_long_in_front_of_an_application(
    site: Site, portal_server: Cluster
) -> None:
    with site.connect(site.portal) as application:
        application.execute("begin")
        application.execute("insert into auth_user (username, password) values ('ada', '')")
        before = footprint(site.portal)
        result = cli("migrate", "portal", "--to", "base", portal=site.portal)
        assert_refused(result, "portal is busy", "run the command again")
        assert footprint(site.portal) == before
        application.execute("rollback")
