"""Relays: courses that stream from a database between them and the portal."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.acceptance.test_cli_process import assert_refused, cli, read_json, succeed
from tests.acceptance.test_cli_resync import assert_equal_to_the_fan_out
from tests.support import Site, assert_live_rows, enroll, insert_user, unenroll

pytestmark = pytest.mark.oldest_and_newest("what slots, subscriptions and workers are like")


def states(site: Site) -> dict[str, str]:
    found = read_json("status", portal=site.portal)["courses"]
    return {each["course_id"]: each["state"] for each in found}


def add_relay(site: Site, name: str = "north") -> str:
    conninfo = site.new_database()
    assert f"relay '{name}' added" in succeed("relay", "add", name, conninfo, portal=site.portal)
    return conninfo


def add(site: Site, course_id: str, relay: str | None = None) -> None:
    site.databases[course_id] = site._course_database(course_id)
    via = [] if relay is None else ["--via", relay]
    succeed("course", "add", course_id, site.databases[course_id], *via, portal=site.portal)


def test_a_course_streams_from_a_relay(site: Site) -> None:
    ada = insert_user(site, "ada")
    enroll(site, ada, "A")
    relay = add_relay(site)
    add(site, "A", "north")
    add(site, "B", "north")
    bob = insert_user(site, "bob")
    for course in ("A", "B"):
        enroll(site, bob, course)
    unenroll(site, ada, "A")
    site.execute("update public.auth_user set email = 'b@example.org' where id = %s", bob)
    site.wait("A", "B")
    for course in ("A", "B"):
        assert_live_rows(site, course)
        assert_equal_to_the_fan_out(site, course)
    assert states(site) == {"A": "streaming", "B": "streaming", "relay:north": "streaming"}
    # The portal decodes once.
    assert (
        site.one("select count(*) from pg_replication_slots where database = current_database()")
        == 1
    )
    succeed("course", "remove", "--yes", "B", portal=site.portal)
    succeed("course", "remove", "--yes", "A", portal=site.portal)
    with closing(site.connect(relay)) as there:
        for table in ("auth_user", "student_courseenrollment"):
            assert there.execute(f"select from course.{table}").fetchall() == []
    succeed("relay", "remove", "--yes", "north", portal=site.portal)
    assert states(site) == {}


@pytest.mark.newest("the order of our own steps")
def test_a_course_moves_to_a_relay_and_back(site: Site) -> None:
    ada = insert_user(site, "ada")
    for course in ("A", "B"):
        enroll(site, ada, course)
        add(site, course)
    add_relay(site)
    for via in ("north", "portal", "north"):
        succeed("course", "move", "A", "--via", via, portal=site.portal)
        site.execute("update public.auth_user set email = %s where id = %s", f"{via}@x.org", ada)
        site.wait("A", "B")
        assert_equal_to_the_fan_out(site, "A")
        assert states(site) == {"A": "streaming", "B": "streaming", "relay:north": "streaming"}


@pytest.mark.newest("what we refuse")
def test_a_course_is_not_added_by_way_of_a_relay_that_is_not_well(site: Site) -> None:
    add_relay(site)
    succeed("course", "pause", "relay:north", portal=site.portal)
    database = site.new_database()
    command = ["course", "add", "A", database, "--via", "north"]
    assert_refused(cli(*command, portal=site.portal, timeout=90), "relay 'north'", "isn't well")
    assert states(site) == {"relay:north": "paused"}
    succeed("course", "resume", "relay:north", portal=site.portal)
    succeed(*command, portal=site.portal)
    # Where it streams from is changed by a move, not in passing.
    again = cli("course", "add", "A", database, "--via", "south", portal=site.portal)
    assert_refused(again, "streams from 'relay:north'", "course move")
