"""``pysync membership``: a portal whose rows stay when people leave is switched over online."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from tests.acceptance.test_cli_course_add import Start, await_blocked, start
from tests.acceptance.test_cli_process import cli, read_json, succeed
from tests.acceptance.test_relays import add, add_relay, states
from tests.acceptance.test_verify_under_load import QUIET, USERS, Writer
from tests.django_site.process import new_site
from tests.support import Site

pytestmark = pytest.mark.oldest_and_newest("what triggers, locks and workers are like")

__all__ = ["start"]

LEVELS = (r"read\ committed", r"repeatable\ read", "serializable")
ACTIVE = "select user_id from {}student_courseenrollment{} order by 1"
STATEMENTS = [
    "update student_courseenrollment set is_active = not is_active where user_id = %(user)s",
    "update student_courseenrollment set is_active = user_id %% 3 = 0, created = now()"
    " where user_id between %(user)s and %(user)s + 20",
    "update auth_user set email = clock_timestamp()::text where id = %(user)s",
    "update auth_userprofile set goals = clock_timestamp()::text where user_id = %(user)s",
]


def fill(site: Site) -> None:
    """Three hundred users with profiles are in A and B; of the first hundred half have left."""
    site.execute("alter table public.student_courseenrollment add is_active boolean default true")
    for statement in (
        "insert into auth_user (username, password) select 'u' || n, '' from generate_series(1, %s) n",
        "insert into auth_userprofile (user_id, name) select id, '' from auth_user limit %s",
        "insert into student_courseenrollment (user_id, course_id, is_active)"
        " select id, c, id > 100 or id %% 2 = 0 from auth_user, unnest('{A,B}'::text[]) c limit 2 * %s",
    ):
        site.execute(statement, USERS)


def assert_members(site: Site, *courses: str, where: str = " and is_active") -> None:
    """Courses have whoever counts, and comparing says so."""
    site.wait(*courses)
    succeed("verify", *courses, portal=site.portal)
    for course in courses:
        expected = site.execute(ACTIVE.format("", f" where course_id = '{course}'{where}"))
        assert site.course(course).execute(ACTIVE.format("course.", "")).fetchall() == expected


def writers(site: Site) -> list[Writer]:
    """Somebody writes at each isolation level."""
    options = "-c default_transaction_isolation={}"
    return [
        Writer(make_conninfo(site.portal, options=options.format(level)), STATEMENTS)
        for level in LEVELS
    ]


@pytest.mark.newest("the order of our own steps; what triggers do is tried on both ends elsewhere")
def test_a_portal_is_switched_over_while_applications_write(site: Site, start: Start) -> None:
    add_relay(site)
    add(site, "A")
    add(site, "B", "north")
    fill(site)
    site.wait("A", "B")
    said = "pysync membership --column is_active"
    assert said in str(read_json("doctor", portal=site.portal))
    adopting = cli("course", "add", "D", site.new_database(), "--adopt", portal=site.portal)
    assert said in adopting.stderr
    preview = succeed("membership", "--column", "is_active", "--dry-run", portal=site.portal)
    assert "course 'A': 50 enrollments would leave, 0 would come" in preview
    # It is killed in the middle: functions count by the column, and no course is there yet.
    session = site.connect()
    session.execute("begin")
    session.execute("select from auth_user where id = 1 for update")
    process = start("membership", "--column", "is_active")
    await_blocked(site, "refresh materialized view")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    session.execute("rollback")
    assert_told(site, "pysync migrate")
    writing = writers(site)
    for writer in writing:
        writer.start()
    try:
        succeed("membership", "--column", "is_active", portal=site.portal)
        succeed("migrate", "portal", "--reinstall", portal=site.portal)
        # A course that comes has whom it is to have, and who has left is in none.
        copy = (
            "insert into student_courseenrollment (user_id, course_id, is_active)"
            " select user_id, 'C', is_active from student_courseenrollment where course_id = 'A'"
        )
        site.execute(copy)
        add(site, "C", "north")
    finally:
        for writer in writing:
            writer.done.set()
        for writer in writing:
            writer.join()
    assert [writer.failure for writer in writing] == [None, None, None]
    assert min(writer.count for writer in writing) > 0
    assert_members(site, "A", "B", "C")
    assert set(states(site).values()) == {"streaming"}
    # Who left stays as a frozen copy.
    frozen = "select count(*) from course.auth_user where id <= %s"
    assert site.course("A").execute(frozen, (QUIET,)).fetchall() == [(QUIET,)]
    site.course("A").execute(
        "set session_replication_role = replica;"
        " delete from course.student_courseenrollment where user_id < 50"
    )
    succeed("repair", "A", portal=site.portal)
    assert_members(site, "A")
    assert said not in str(read_json("doctor", portal=site.portal))
    site.execute("alter table public.student_courseenrollment drop column is_active")
    site.execute("update student_courseenrollment set created = now() where user_id <= 10")
    assert_told(site, "pysync membership --reset")
    changes = json.loads(
        succeed("membership", "--reset", "--dry-run", "--format", "json", portal=site.portal)
    )
    assert {each["leave"] for each in changes["courses"]} == {0}
    assert min(each["come"] for each in changes["courses"]) >= 40
    assert "column" in cli("membership", "--column", "is_active", portal=site.portal).stderr
    succeed("membership", "--reset", portal=site.portal)
    assert_members(site, "A", "B", "C", where="")
    assert set(states(site).values()) == {"streaming"}
    shown = succeed("membership", "--show", portal=site.portal)
    assert shown == "student_courseenrollment: each row counts\n"


@pytest.mark.newest("what a command says")
def test_a_portal_that_is_adopted_hears_what_is_to_be_decided(site: Site) -> None:
    cluster = site.portal_server
    portal = site.new_database(cluster, template=new_site(cluster))
    alter = (
        "alter table public.student_courseenrollment add is_active boolean not null default true"
    )
    site.connect(portal).execute(alter)
    done = cli("migrate", portal=portal)
    assert done.returncode == 0
    assert "pysync membership --column is_active" in done.stderr
    assert "pysync membership --reset" in done.stderr


def assert_told(site: Site, command: str) -> None:
    found: dict[str, Any] = read_json("status", portal=site.portal)
    assert command in str(found)
    assert "drifted" in {each["state"] for each in found["courses"]}
