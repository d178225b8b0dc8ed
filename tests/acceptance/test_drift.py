"""What somebody changed by hand is named, object by object, and the remedies bring it back."""

from __future__ import annotations

import json
import shlex
from typing import Any

import psycopg
import pytest

from pysync.db.connections import connect
from pysync.migrate import migrate
from pysync.migrate.installed import differences
from pysync.migrate.lineage import COURSE, PORTAL
from tests.acceptance.test_cli_process import cli, read_json, succeed
from tests.acceptance.test_cli_status import alter_subscription, replication_name
from tests.acceptance.test_faults import IN_COURSE, ON_PORTAL, become
from tests.support import Site, enroll, insert_user

READABLE = ": roles of courses may read what isn't theirs, or not what is"
ROW_TRIGGER = "for each row execute function suppress_redundant_updates_trigger()"

# What is done by hand, and what is said of it: the object and the cause, without where it is.
ON_THE_PORTAL = {
    "alter table course.auth_user disable row level security": (
        "table course.auth_user",
        "has row security off rather than on",
    ),
    "alter table course.mark force row level security": (
        "table course.mark",
        "has row security of owners on rather than off",
    ),
    "drop policy pysync_own_course on course.mark": (
        "policy 'pysync_own_course' on course.mark",
        f"is missing{READABLE}",
    ),
    "create policy open on course.auth_user using (true)": (
        "policy 'open' on course.auth_user",
        f"was added{READABLE}",
    ),
    "alter policy pysync_own_course on course.auth_userprofile using (true)": (
        "policy 'pysync_own_course' on course.auth_userprofile",
        f"was altered{READABLE}",
    ),
    "alter table course.auth_user drop constraint auth_user_course_id_username_key": (
        "constraint 'auth_user_course_id_username_key' on course.auth_user",
        "is missing",
    ),
    "create unique index extra on course.auth_user (email, course_id)": (
        "index 'extra' on course.auth_user",
        "was added",
    ),
    "grant select on course.auth_userprofile to public": (
        "table course.auth_userprofile",
        "grants select to PUBLIC",
    ),
    "grant select (email) on course.auth_user to public": (
        "table course.auth_user",
        "grants select (email) to PUBLIC",
    ),
    "grant select on pysync.subscription_status to public": (
        "view pysync.subscription_status",
        "grants select to PUBLIC",
    ),
    "grant execute on function pysync.readable_courses(name) to public": (
        "function pysync.readable_courses(name)",
        "grants execute to PUBLIC",
    ),
    "revoke select on public.auth_user from pysync_fan_out": (
        "table public.auth_user",
        "doesn't grant select to pysync_fan_out",
    ),
    "alter function course.user_deleted() owner to onlooker": (
        "function course.user_deleted()",
        "belongs to role 'onlooker' rather than 'pysync_fan_out'",
    ),
    "alter function student.user_count() owner to onlooker": (
        "function student.user_count()",
        "belongs to role 'onlooker' rather than 'postgres'",
    ),
    "alter function course.user_updated() security invoker": (
        "function course.user_updated()",
        "was altered (security is “invoker” rather than “definer”)",
    ),
    "alter function course.profiles_carried() set search_path = public": (
        "function course.profiles_carried()",
        "was altered (settings is “['search_path=public', 'row_security=on']” rather than"
        " “['search_path=pg_catalog, pg_temp', 'row_security=on']”)",
    ),
    "drop function course.enrollment_deleted() cascade": (
        "function course.enrollment_deleted()",
        "is missing",
    ),
    "alter table public.auth_user disable trigger pysync_user_updated": (
        "trigger 'pysync_user_updated' on public.auth_user",
        "is disabled",
    ),
    f"create trigger own before insert on course.auth_user {ROW_TRIGGER}": (
        "trigger 'own' on course.auth_user",
        "was added",
    ),
    "alter table course.auth_userprofile alter gender set not null": (
        "column 'gender' on course.auth_userprofile",
        "was altered (nullable is False rather than True)",
    ),
    "alter table pysync.discussion_outbox drop last_error": (
        "column 'last_error' on pysync.discussion_outbox",
        "is missing",
    ),
}
# Goes with the function above.
GONE_WITH_IT = {
    ("trigger 'pysync_enrollment_deleted' on public.student_courseenrollment", "is missing")
}

IN_THE_COURSE = {
    "alter table course.mark enable replica trigger pysync_refuse_rows": (
        "trigger 'pysync_refuse_rows' on course.mark",
        "fires for replication only",
    ),
    "drop trigger pysync_refuse_columns on course.auth_user": (
        "trigger 'pysync_refuse_columns' on course.auth_user",
        "is missing",
    ),
    "alter table course.auth_user alter column course_id type varchar(255)": (
        "domain course.this_course_id",
        "was altered: rows of other courses would be let in "
        "(course.auth_user.course_id is None rather than “of this type”)",
    ),
    "create or replace function course.refuse_write() returns trigger language plpgsql"
    " set search_path = pg_catalog, pg_temp as 'begin return new; end'": (
        "function course.refuse_write()",
        "was altered",
    ),
    "alter table course.auth_userprofile owner to pg_monitor": (
        "table course.auth_userprofile",
        "belongs to role 'pg_monitor' rather than 'pysync_course'",
    ),
    "alter table course.mark drop constraint mark_pkey": (
        "constraint 'mark_pkey' on course.mark",
        "is missing",
    ),
}

# The administrators' business, and a site's.
NO_DRIFT_ON_THE_PORTAL = (
    "grant select on course.auth_user to onlooker",
    "grant execute on function pysync.mark(text) to onlooker",
    "alter table course.auth_user set (autovacuum_vacuum_scale_factor = 0.01)",
    "create index on course.auth_user (email)",
    "alter function student.user_count() cost 1000",
    f"create trigger own before insert on public.auth_user {ROW_TRIGGER}",
)
NO_DRIFT_IN_THE_COURSE = (
    "grant execute on procedure course.wait_for(bigint, interval) to public",
    "grant select on course.auth_user to public",
    f"create trigger own after insert on course.mark {ROW_TRIGGER}",
    "alter table course.auth_user add karma integer",
    "create index on course.auth_user (karma)",
    "alter table course.auth_user add constraint karma check (karma > 0)",
)


@pytest.fixture
def course(site: Site) -> psycopg.Connection[Any]:
    """A course that streams, with one user, and a role without rights."""
    site.add("A")
    enroll(site, insert_user(site, "first"), "A")
    site.wait()
    site.execute(
        "do $$ begin if to_regrole('onlooker') is null then create role onlooker; end if; end $$"
    )
    return site.course("A")


def drift(site: Site) -> list[dict[str, Any]]:
    (found,) = read_json("status", "A", portal=site.portal)["courses"]
    return list(found["drift"])


def told(found: list[dict[str, Any]], where: str) -> set[tuple[str, str]]:
    return {(each["object"], each["cause"].replace(where, "")) for each in found}


def follow_all(site: Site, found: list[dict[str, Any]]) -> None:
    """Do what the remedies say: statements first, then the commands."""
    commands = set()
    with site.connect() as portal, site.course("A") as course:
        for each in found:
            remedy, first = each["remedy"], each["commands"][0]
            if first.startswith("pysync "):
                commands.add(first.removeprefix("pysync "))
                continue
            connection, start = (
                (portal, ON_PORTAL) if remedy.startswith(ON_PORTAL) else (course, IN_COURSE)
            )
            assert remedy.startswith(start), remedy
            for statement in first.split("; "):
                connection.execute(statement.encode())
    for each_command in commands:
        said = succeed(*shlex.split(each_command), portal=site.portal)
        assert said.endswith("all objects installed again\n"), said


@pytest.mark.oldest_and_newest("what catalogs hold, and what remedies do there; takes long")
def test_whatever_is_changed_by_hand_is_named_and_comes_back(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    """Though a report before has seen that nothing differed."""
    assert drift(site) == []
    made = site.one("select catalog_fingerprint from pysync.course")
    assert made is not None
    assert drift(site) == []
    assert site.one("select catalog_fingerprint from pysync.course") == made
    for statement in (*NO_DRIFT_ON_THE_PORTAL, *ON_THE_PORTAL):
        site.execute(statement)
    for statement in (*NO_DRIFT_IN_THE_COURSE, *IN_THE_COURSE):
        course.execute(statement.encode())
    found = drift(site)
    on_portal = [each for each in found if "on the portal" in each["cause"]]
    in_course = [each for each in found if "in the course database" in each["cause"]]
    assert len(on_portal) + len(in_course) == len(found)
    assert told(on_portal, " on the portal") == {*ON_THE_PORTAL.values()} | GONE_WITH_IT
    assert told(in_course, " in the course database") == {*IN_THE_COURSE.values()}
    follow_all(site, found)
    assert drift(site) == []
    site.execute("update auth_user set email = 'new@example.org'")
    become(site, "streaming")
    assert site.one("select catalog_fingerprint from pysync.course") != made


@pytest.mark.oldest_and_newest(
    "15 has neither origin nor run_as_owner, and a superuser in its stead"
)
@pytest.mark.newest("comparing is ours")
def test_what_a_subscription_is_to_bring_is_named_and_comes_back(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    name = replication_name(site, "A")
    site.execute("create publication other for table course.mark")
    wrong = {
        "set publication other with (refresh = false)": "follows publication 'other'",
        "set (slot_name = other)": "follows slot 'other'",
    }
    if read_columns(course, "subrunasowner"):
        wrong["set (run_as_owner = true)"] = "applies rows with the rights of its own owner"
        wrong["set (origin = none)"] = "leaves out what others replicate"
    else:
        wrong["owner to current_user"] = "applies rows with the rights of its own owner"
    # The operator's own business.
    alter_subscription(site, "A", "set (binary = true, disable_on_error = true)")
    alter_subscription(site, "A", "set (synchronous_commit = local)")
    assert drift(site) == []
    for action, cause in wrong.items():
        alter_subscription(site, "A", action)
        (found,) = drift(site)
        assert found["object"] == f"subscription '{name}'"
        assert found["cause"].startswith(cause)
        for command in found["commands"]:
            if command.startswith("pysync "):
                succeed(*shlex.split(command)[1:], portal=site.portal)
                continue
            for statement in command.split("; "):
                course.execute(statement.encode())
        become(site, "streaming")


def read_columns(course: psycopg.Connection[Any], name: str) -> list[tuple[Any, ...]]:
    return course.execute(
        "select attname from pg_attribute where attrelid = 'pg_subscription'::regclass"
        " and attname = %s",
        (name,),
    ).fetchall()


@pytest.mark.newest("names of ours")
def test_a_unique_key_and_a_column_that_replication_needs_may_have_any_name(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    course.execute("alter table course.auth_user rename constraint auth_user_username_key to own")
    become(site, "streaming")
    course.execute("alter table course.auth_user drop constraint own")
    (found,) = drift(site)
    assert found["object"] == "table course.auth_user"
    follow_all(site, [found])
    become(site, "streaming")


@pytest.mark.newest("there is no other major: one is made up")
@pytest.mark.parametrize("lineage", [PORTAL, COURSE], ids=lambda lineage: lineage.name)
def test_what_another_major_spelled_is_compared_by_facts_alone(
    site: Site, course: psycopg.Connection[Any], lineage: Any
) -> None:
    conninfo = site.portal if lineage is PORTAL else site.databases["A"]
    with connect(conninfo) as connection:
        installed = f"{lineage.version_schema}.installed"
        connection.execute(f"update {installed} set major = 1, definition = 'by another'".encode())
        assert differences(connection, lineage) == []
        # A fact that differs is told nevertheless; the rest is spelled anew.
        connection.execute(b"alter table course.mark disable trigger user")
        found = {(each.kind, each.relation) for each in differences(connection, lineage)}
        assert found == {("trigger", "course.mark")}
        migrate(conninfo, lineage, "again")
        query = f"select kind, relation from {installed} where definition = 'by another'"
        assert {*connection.execute(query.encode()).fetchall()} == found
        assert {(e.kind, e.relation) for e in differences(connection, lineage)} == found


@pytest.mark.newest("texts of ours")
def test_a_role_that_may_not_read_what_was_recorded_learns_of_that(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    for grant in (
        "usage on schema pysync to onlooker",
        "select on pysync.course, pysync.portal_status, pysync.subscription_status,"
        " pysync.alembic_version to onlooker",
    ):
        site.execute(f"grant {grant}")
    site.execute("alter table course.auth_user disable row level security")
    site.execute("alter role onlooker login")
    site.execute("grant pg_read_all_settings to onlooker")
    portal = psycopg.conninfo.make_conninfo(site.portal, user="onlooker")
    (found,) = read_json("status", portal=portal)["courses"]
    assert found["state"] == "streaming"
    result = cli("doctor", "--format", "json", portal=portal)
    assert result.stdout, result.stderr
    found = json.loads(result.stdout)["findings"]
    ((statements,),) = [
        each["commands"] for each in found if "can't tell whether functions" in each["cause"]
    ]
    site.execute(statements)
    (found,) = read_json("status", portal=portal)["courses"]
    assert found["state"] == "drifted"


@pytest.mark.newest("a query of ours, as every server answers it")
def test_a_view_that_has_the_oid_of_a_function_keeps_its_own_rights(site: Site) -> None:
    with connect(site.portal) as portal:
        portal.execute("create function pysync.anything() returns int language sql return 1")
        portal.execute("set allow_system_table_mods = on")
        # pg_upgrade keeps the one's oid, and gives the other any that no function has.
        portal.execute(
            "update pg_catalog.pg_proc set oid = 'pysync.portal_status'::pg_catalog.regclass"
            " where proname = 'anything'"
        )
        assert differences(portal, PORTAL) == []
        portal.execute("delete from pg_catalog.pg_proc where proname = 'anything'")
