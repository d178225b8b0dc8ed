"""The life of a portal and its course, run by a role that is no superuser.

The tests of each command do so on the newest version: this one is for the oldest that can.
"""

from __future__ import annotations

import json
import signal

import psycopg
import pytest

from pysync.migrate import head_revision
from pysync.migrate.lineage import PORTAL
from tests.acceptance.test_cli_course_add import Start, assert_whole, held_slot, slots, start
from tests.acceptance.test_cli_process import cli, courses_of, read_json, succeed
from tests.acceptance.test_cli_resync import assert_equal_to_the_fan_out
from tests.acceptance.test_cli_status import alter_subscription, replication_name
from tests.acceptance.test_serve import await_health, get, serving
from tests.django_site.process import new_site
from tests.support import Site, as_superuser, enroll, grant, insert_user, unenroll

__all__ = ["start"]

PEOPLE = """
insert into auth_user (username, password, is_superuser, first_name, last_name, email, is_staff,
                       is_active, date_joined)
select name, 'x', false, '', '', '', false, true, now() from unnest(array['ada', 'bob']) as name;
insert into auth_userprofile (user_id, name, meta, courseware, language, location)
select id, username, '', '', '', '' from auth_user;
insert into student_courseenrollment (user_id, course_id) select id, 'A' from auth_user;
"""


def set_on_slot(site: Site, course_id: str) -> str | None:
    """Have a course's slot be one that fails over, where the server has such."""
    columns = "select true from pg_attribute where attrelid = 'pg_subscription'::regclass"
    if not site.execute(f"{columns} and attname = 'subfailover'"):
        return None
    alter_subscription(site, course_id, "set (failover = true)")
    return "true"


@pytest.mark.timeout(300)
@pytest.mark.granted("what it takes, command by command")
@pytest.mark.every_major("membership in roles, MAINTAIN, who subscribes, slots that fail over")
def test_no_command_takes_a_superuser(site: Site, start: Start) -> None:
    site.portal_server.drop(site.portal)
    django = site.new_database(site.portal_server, template=new_site(site.portal_server))
    site.portal = portal = grant(site.portal_server, "portal", as_superuser(django))

    # A Django site becomes a portal.
    site.execute(PEOPLE)
    assert succeed("migrate", portal=portal) == f"portal: base -> {head_revision(PORTAL)}\n"

    # A course that is killed while it is added is finished by the same command.
    site.databases["A"] = database = site.new_database()
    with held_slot(site, start) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    succeed("course", "add", "A", database, portal=portal)
    assert_whole(site, "A")
    found = read_json("doctor", portal=portal)["findings"]
    assert [each for each in found if "which pysync uses" in each["object"]] == []

    # What is changed behind its back is found, mended and merged; it is erased everywhere.
    with psycopg.connect(as_superuser(database)) as tampered:
        tampered.execute("set local session_replication_role = replica")
        tampered.execute("delete from course.student_courseenrollment")
    assert cli("verify", "A", portal=portal).returncode == 1
    succeed("repair", "A", portal=portal)
    succeed("course", "pause", "A", portal=portal)
    chosen = set_on_slot(site, "A")
    enroll(site, insert_user(site, "eve"), "A")
    succeed("course", "resume", "A", portal=portal)
    succeed("resync", "A", portal=portal)
    succeed("resync", "A", "--table", "auth_userprofile", portal=portal)
    succeed("verify", portal=portal)
    assert "erased everywhere" in succeed("erase", "eve", "--yes", portal=portal)
    assert_equal_to_the_fan_out(site, "A")

    # A change that can't be applied is named, as it is by the page.
    alter_subscription(site, "A", "disable")
    with psycopg.connect(as_superuser(database)) as tampered:
        tampered.execute("set local session_replication_role = replica")
        tampered.execute("delete from course.student_courseenrollment")
        tampered.execute("alter table course.student_courseenrollment alter created set not null")
    user_id = insert_user(site, "dan")
    site.execute(
        "insert into student_courseenrollment (user_id, course_id, created) values (%s, 'A', null)",
        user_id,
    )
    alter_subscription(site, "A", "enable")
    assert "created" in str(courses_of("status", portal=portal)["A"]["cause"])
    with serving(portal, "--interval", "0.5") as (url, _):
        await_health(url, 200)
        (told,) = json.loads(get(f"{url}/api/status")[1])["courses"]
        assert told["state"] == "stuck"
    site.course("A").execute(
        "alter table course.student_courseenrollment alter created drop not null"
    )
    unenroll(site, user_id, "A")
    succeed("resync", "A", portal=portal)

    # It moves and leaves, and the portal is no more than a Django site again.
    moved = site.new_database()
    succeed("course", "move", "A", moved, "--fresh", portal=portal)
    site.databases["A"] = moved
    assert_equal_to_the_fan_out(site, "A")
    assert slots(site) == [replication_name(site, "A")]
    assert site.one("select to_jsonb(s) ->> 'failover' from pg_replication_slots s") == chosen
    succeed("course", "remove", "A", "--yes", portal=portal)
    succeed("course", "add", "A", moved, "--adopt", "--yes", portal=portal)
    assert_equal_to_the_fan_out(site, "A")
    succeed("course", "remove", "A", "--yes", portal=portal)
    succeed("migrate", "portal", "--to", "base", portal=portal)
    assert site.one("select array_agg(username::text order by id) from auth_user") == [
        *("ada", "bob", "held", "dan")
    ]
