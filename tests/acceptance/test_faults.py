"""Faults made for real: the state, cause and remedy that ``status`` reports, and the remedy works.

Remedies that are statements are taken from the report and run as they stand.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
from psycopg import sql

from pysync.watching.status.document import schema
from tests.acceptance.test_cli_course_add import enroll_users
from tests.acceptance.test_cli_process import OwnCluster, read_json, succeed
from tests.acceptance.test_cli_status import alter_subscription, replication_name
from tests.conftest import COURSES, PORTALS
from tests.support import PORTAL_TEMPLATE, Cluster, Site, drop_slot, enroll, eventually, insert_user

pytestmark = pytest.mark.oldest_and_newest("what a version says of a fault, and where")

IN_COURSE = "run in the course database: "
ON_PORTAL = "run on the portal: "


def seen(site: Site, course_id: str = "A") -> dict[str, Any]:
    """Return what status says of a course, checked against the schema."""
    document = read_json("status", course_id, portal=site.portal)
    jsonschema.Draft202012Validator(schema()).validate(document)
    (found,) = document["courses"]
    assert isinstance(found, dict)
    return found


def become(site: Site, state: str, *words: str, course_id: str = "A") -> dict[str, Any]:
    """Wait until a course is in a state, and check what is said about it."""
    found = eventually(
        lambda: each if (each := seen(site, course_id))["state"] == state else None, 30
    )
    said = f"{found['cause']}; {found['remedy']}"
    for word in words:
        assert word in said, f"{word!r} isn't in: {said}"
    assert isinstance(found, dict)
    return found


def follow(site: Site, found: dict[str, Any], course_id: str = "A") -> None:
    """Run the statements that a remedy begins with."""
    on_portal = found["remedy"].startswith(ON_PORTAL)
    assert on_portal or found["remedy"].startswith(IN_COURSE), found
    connection = site.connect() if on_portal else site.course(course_id)
    for each in found["commands"][0].split("; "):
        connection.execute(each.encode())


def mend(site: Site, *command: str, course_id: str = "A") -> None:
    """Run the command that a remedy names, and see the course whole again."""
    succeed(*command, course_id, portal=site.portal)
    become(site, "streaming", course_id=course_id)
    succeed("verify", course_id, portal=site.portal)


def as_replica(connection: psycopg.Connection[Any], statement: str) -> None:
    with connection.transaction():
        connection.execute("set local session_replication_role = replica")
        connection.execute(statement.encode())


def test_a_local_row_that_collides_is_named_with_its_key(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    as_replica(
        course,
        "insert into course.auth_user (id, course_id, username, password)"
        " values (99999, 'A', 'ada', '')",
    )
    enroll(site, insert_user(site, "ada"), "A")
    found = become(
        site,
        "stuck",
        "insert on course.auth_user fails",
        "23505",
        '"auth_user_username_key"',
        "Key (username)=(ada) already exists",
        "pysync resync A",
    )
    assert found["apply_errors"] >= 0
    follow(site, found)
    site.wait()
    become(site, "streaming")
    assert course.execute("select id = 99999 from auth_user where username = 'ada'").fetchone() == (
        False,
    )


@pytest.mark.newest("what an insert is refused for is told on both ends for a key that collides")
def test_an_extension_column_that_no_row_can_fill(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    course.execute("alter table course.auth_user add column karma integer not null default 0")
    course.execute("alter table course.auth_user alter column karma drop default")
    # It is reported before it does harm, and by its name when it has.
    become(site, "drifted", "table course.auth_user column 'karma'", "NOT NULL")
    enroll(site, insert_user(site, "ada"), "A")
    found = become(site, "stuck", 'null value in column "karma"', "23502")
    follow(site, found)
    site.wait()
    become(site, "streaming")


@pytest.mark.newest("catalogs that both ends have alike")
def test_a_column_dropped_in_the_course(site: Site, course: psycopg.Connection[Any]) -> None:
    course.execute("drop trigger pysync_refuse_columns on course.auth_userprofile")
    course.execute("alter table course.auth_userprofile drop column goals")
    found = become(site, "drifted", "table course.auth_userprofile lacks column goals")
    user_id = insert_user(site, "ada")
    site.execute("insert into auth_userprofile (user_id, name) values (%s, 'Ada')", user_id)
    enroll(site, user_id, "A")
    found = become(site, "stuck", "goals", "42703", "pysync repair A")
    (column,) = [each for each in found["drift"] if "lacks column" in each["cause"]]
    (trigger,) = [each for each in found["drift"] if "trigger" in each["object"]]
    assert trigger["cause"] == "is missing in the course database"
    follow(site, column)
    site.wait()
    assert trigger["remedy"] == "run 'pysync migrate course --reinstall A'"
    succeed("migrate", "course", "A", "--reinstall", portal=site.portal)
    mend(site, "repair")


@pytest.mark.newest("row filters are in catalogs that both ends have alike")
def test_a_row_filter_altered_by_hand(site: Site, course: psycopg.Connection[Any]) -> None:
    name = sql.Identifier(replication_name(site, "A"))
    with site.connect() as portal:
        portal.execute(
            sql.SQL(
                "alter publication {} set table course.auth_user where (course_id = 'B'),"
                " course.auth_userprofile where (course_id = 'A'),"
                " course.mark (id, course_id, number, marked_at, predecessors),"
                " course.student_courseenrollment (id, course_id)"
            ).format(name)
        )
    found = become(site, "drifted", f"publication '{name.as_string().strip(chr(34))}'", "'B'")
    causes = " ".join(each["cause"] for each in found["drift"])
    assert "has no row filter on course.mark" in causes
    assert "lacks column created, user_id of course.student_courseenrollment" in causes
    assert "publishes all columns of course.auth_userprofile" in causes
    site.execute("update auth_user set email = 'missed@example.org'")
    follow(site, found)
    become(site, "streaming")
    mend(site, "repair")


@pytest.mark.newest("triggers are in catalogs that both ends have alike")
def test_a_trigger_disabled_on_the_portal(site: Site, course: psycopg.Connection[Any]) -> None:
    site.execute("alter table public.auth_user disable trigger pysync_user_updated")
    found = become(
        site, "drifted", "trigger 'pysync_user_updated' on public.auth_user is disabled", "rebuild"
    )
    site.execute("update auth_user set email = 'missed@example.org'")
    follow(site, found)
    mend(site, "rebuild")
    site.execute(
        "create or replace function course.user_updated() returns trigger language plpgsql"
        " security definer set search_path = pg_catalog, pg_temp as 'begin return null; end'"
    )
    found = become(site, "drifted", "function course.user_updated() was altered on the portal")
    assert found["remedy"] == "run 'pysync migrate portal --reinstall'"
    succeed("migrate", "portal", "--reinstall", portal=site.portal)
    become(site, "streaming")


@pytest.mark.newest("our own comparison")
def test_what_is_only_spelled_differently_is_no_drift(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    body = site.one("select prosrc from pg_proc where oid = 'course.user_updated()'::regprocedure")
    site.execute(
        "create or replace function course.user_updated() returns trigger language plpgsql"
        " security definer set search_path = pg_catalog, pg_temp set row_security = on"
        " set plan_cache_mode = force_generic_plan set enable_seqscan = off"
        f" as $$ -- spaced\n{body.replace('    ', ' ')}$$"
    )
    course.execute(
        "alter database current_database set search_path = public, course".replace(
            "current_database", course.info.dbname
        )
    )
    become(site, "streaming")


@pytest.mark.newest("a setting as old as schemas")
def test_a_search_path_without_the_course(site: Site, course: psycopg.Connection[Any]) -> None:
    course.execute(f"alter database {course.info.dbname} set search_path = public")
    found = become(site, "drifted", "search_path", "doesn't name schema course")
    follow(site, found)
    become(site, "streaming")


@pytest.mark.newest("views are in catalogs that both ends have alike")
def test_a_view_that_is_missing_or_altered(site: Site, course: psycopg.Connection[Any]) -> None:
    for statement in (
        "drop view course.replication_status",
        "create view course.replication_status as select 1 as course_id",
        "create view course.replication_status as select course_id, 'x' as mark from course.mark",
    ):
        course.execute(statement)
        found = become(site, "drifted", "view course.replication_status", "can't be read")
        assert (found["tables_total"], found["lag_bytes"] is None) == (None, False)
        follow(site, found)
        assert found["remedy"].endswith("; then 'pysync migrate course --reinstall A'")
        succeed("migrate", "course", "A", "--reinstall", portal=site.portal)
        become(site, "streaming")
        course.execute("drop view course.replication_status")


@pytest.mark.newest("a worker that is at work is seen on both ends in test_causes.py")
def test_a_course_that_is_behind_and_moves_is_not_stuck(site: Site) -> None:
    """A long transaction on its way: nothing is confirmed and no error counted for seconds."""
    enroll_users(site, "A", 2000)
    site.add("A")
    course = site.course("A")
    course.execute(
        "create function public.slow() returns trigger language plpgsql as"
        " $$ begin perform pg_catalog.pg_sleep(0.002); return null; end $$"
    )
    course.execute(
        "create trigger slow after update on course.auth_user"
        " for each row execute function public.slow()"
    )
    course.execute("alter table course.auth_user enable always trigger slow")
    site.execute("update auth_user set email = 'new@example.org'")
    found = seen(site)
    assert found["state"] == "catching-up", found
    assert found["cause"].startswith("its apply worker applies one transaction since ")
    assert found["lag_bytes"] > 0
    assert found["lag_seconds"] > 0.5
    site.wait()
    become(site, "streaming")


@pytest.mark.newest("who holds a lock is told on both ends in test_causes.py")
def test_a_lock_that_holds_up_the_apply_worker(site: Site, course: psycopg.Connection[Any]) -> None:
    with site.course("A") as session, session.transaction():
        session.execute("select from course.auth_user for update")
        session.execute("set local application_name = 'left open'")
        site.execute("update auth_user set email = 'new@example.org'")
        found = become(site, "stuck", "waits for a lock", "left open", "idle in transaction")
        assert str(session.info.backend_pid) in found["remedy"]
        assert found["apply_errors"] == 0
    site.wait()
    become(site, "streaming")


@pytest.mark.newest("a state that is read from one column")
def test_a_subscription_disabled(site: Site, course: psycopg.Connection[Any]) -> None:
    alter_subscription(site, "A", "disable")
    become(site, "paused", "subscription is disabled", "pysync course resume A")
    mend(site, "course", "resume")


@pytest.mark.newest("names of ours")
def test_slots_publications_and_subscriptions_without_a_course(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    site.execute("select pg_create_logical_replication_slot('pysync_nobody', 'pgoutput')")
    site.execute("create publication pysync_nobody for table course.mark")
    course.execute(
        "create subscription pysync_stray connection 'dbname=nowhere' publication x"
        " with (connect = false, slot_name = none)"
    )
    document = read_json("status", portal=site.portal)
    jsonschema.Draft202012Validator(schema()).validate(document)
    assert {(each["kind"], each["name"]) for each in document["orphans"]} == {
        ("slot", "pysync_nobody"),
        ("publication", "pysync_nobody"),
        ("subscription", "pysync_stray"),
    }
    assert document["courses"][0]["state"] == "streaming"
    assert re.search(r"pysync_nobody +orphaned", succeed("status", portal=site.portal))
    for each in document["orphans"]:
        where, (statements,) = each["remedy"], each["commands"]
        connection = course if each["kind"] == "subscription" else site.connect()
        assert where.startswith("run ")
        for statement in statements.split("; "):
            connection.execute(statement.encode())
    assert read_json("status", portal=site.portal)["orphans"] == []


# Faults of whole servers.


@pytest.fixture(scope="module")
def servers(major: int, folder: Path) -> Iterator[tuple[OwnCluster, OwnCluster]]:
    portal = OwnCluster.start(major, folder, "faults-p", PORTALS)
    course = OwnCluster.start(major, folder, "faults-c", COURSES)
    yield portal, course
    for cluster in (portal, course):
        cluster.server.stop()


@pytest.fixture
def own_site(servers: tuple[Cluster, Cluster]) -> Iterator[Site]:
    portal, course = servers
    site = Site(portal, course, portal.create(template=PORTAL_TEMPLATE))
    yield site
    site.close()


@pytest.mark.oldest_and_newest("takes long; if both ends agree, those between do")
def test_a_course_server_killed_and_a_database_dropped(
    own_site: Site, servers: tuple[OwnCluster, OwnCluster]
) -> None:
    site, (_, course_server) = own_site, servers
    site.add("A")
    site.add("B")
    course_server.kill()
    for course_id in ("A", "B"):
        found = seen(site, course_id)
        assert found["state"] == "unreachable"
        assert "can't be reached" in found["cause"]
        assert found["remedy"]
        assert found["retained_wal_bytes"] >= 0
    course_server.server.start()
    # What it hadn't flushed it may have lost: until it is looked at, nobody knows.
    found = become(site, "streaming", "unverified since", "pysync verify A")
    assert found["unverified_since"] is not None
    succeed("verify", "A", portal=site.portal)
    found = become(site, "streaming")
    assert (found["cause"], found["unverified_since"]) == (None, None)
    for action in ("disable", "set (slot_name = none)"):
        alter_subscription(site, "B", action)
    name = replication_name(site, "B")
    site.course("B").execute(sql.SQL("drop subscription {}").format(sql.Identifier(name)))
    for connection in site._connections:
        connection.close()
    course_server.drop(site.databases["B"])
    found = seen(site, "B")
    assert found["state"] == "unreachable"
    assert "is gone" in found["cause"]
    assert "pysync course remove --force --yes B" in found["remedy"]
    assert (found["slot_active"], found["lag_seconds"]) == (False, None)
    succeed("course", "remove", "B", "--yes", "--force", portal=site.portal)


def test_a_slot_dropped_and_one_invalidated(
    own_site: Site, servers: tuple[OwnCluster, OwnCluster]
) -> None:
    site = own_site
    for course_id in ("A", "B"):
        site.add(course_id)
        alter_subscription(site, course_id, "disable")
    with site.connect() as portal:
        drop_slot(portal, replication_name(site, "A"))
        become(site, "lost", "slot is missing", "pysync resync A")
        portal.execute("alter system set max_slot_wal_keep_size = '32MB'")
        portal.execute("select pg_reload_conf()")
        try:
            eventually(lambda: seen(site, "B")["seconds_to_loss"] is not None)
            left = seen(site, "B")["seconds_to_loss"]
            assert left > 0
            for _ in range(6):
                portal.execute("select pg_switch_wal(), pg_logical_emit_message(false, '', 'x')")
            portal.execute("checkpoint")
            found = become(site, "lost", "slot was invalidated", "pysync resync B", course_id="B")
            assert found["slot_status"] == "lost"
        finally:
            portal.execute("alter system reset max_slot_wal_keep_size")
            portal.execute("select pg_reload_conf()")
    for course_id in ("A", "B"):
        enroll(site, insert_user(site, f"late in {course_id}"), course_id)
        mend(site, "resync", course_id=course_id)


@pytest.mark.newest("that the portal is older is seen by marks")
def test_a_portal_restored_from_a_backup_that_is_older_than_its_courses(
    own_site: Site, servers: tuple[OwnCluster, OwnCluster]
) -> None:
    site, (portal_server, _) = own_site, servers
    site.add("A")
    become(site, "streaming")
    server = portal_server.server
    backup = server.folder / "backup"
    server.stop()
    subprocess.run(["cp", "-a", server.data, backup], check=True)
    server.start()
    for number in range(20):
        enroll(site, insert_user(site, f"user{number}"), "A")
    site.wait()
    server.stop()
    subprocess.run(["rm", "-r", server.data], check=True)
    backup.rename(server.data)
    server.start()
    # Everything looks well: the slot is there, and the worker connects to it again.
    eventually(lambda: seen(site)["slot_active"])
    for username in ("later", "later still"):
        become(site, "lost", "older than the course", "restore from a backup", "pysync resync A")
        enroll(site, insert_user(site, username), "A")
    assert seen(site)["lag_seconds"] is None
    mend(site, "resync")
    rows = site.course("A").execute("select username from auth_user order by id").fetchall()
    assert rows == [("later",), ("later still",)]


@pytest.mark.newest("that changes are missing is seen by marks")
def test_a_course_server_put_back_to_an_earlier_copy(
    own_site: Site, servers: tuple[OwnCluster, OwnCluster]
) -> None:
    site, server = own_site, servers[1].server
    site.add("A")
    become(site, "streaming")
    backup = server.folder / "backup"
    server.stop()
    subprocess.run(["cp", "-a", server.data, backup], check=True)
    server.start()
    enroll(site, insert_user(site, "lost"), "A")
    site.wait()
    server.stop()
    subprocess.run(["rm", "-r", server.data], check=True)
    backup.rename(server.data)
    server.start()
    # The worker connects, nothing fails, and what is committed from now on arrives.
    become(site, "lost", "changes between", "are missing in the course", "pysync resync A")
    assert site.course("A").execute("select from auth_user").fetchall() == []
    mend(site, "resync")


@pytest.mark.newest("positions that we compare")
def test_a_course_whose_position_is_ahead_of_the_portal(own_site: Site) -> None:
    """A portal that was restored, and sent marks since: the course's origin still tells."""
    site = own_site
    site.add("A")
    alter_subscription(site, "A", "disable")
    origin = (
        site.course("A")
        .execute(
            "select roname from pg_replication_origin where roname ="
            " 'pg_' || (select oid from pg_subscription where subname = %s)",
            (replication_name(site, "A"),),
        )
        .fetchone()
    )
    assert origin is not None
    become(site, "paused")
    site.course("A").execute("select pg_replication_origin_advance(%s, 'F/0')", origin)
    become(site, "lost", "older than the course")


def test_updates_and_deletes_that_fail_are_told_apart(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    course.execute("alter table course.auth_user add constraint no check (email <> 'bad')")
    site.execute("update auth_user set email = 'bad', last_name = 'Zoë'")
    found = become(site, "stuck", "pending update on course.auth_user fails", '"no"', "23514")
    assert "Zoë" not in f"{found}"  # whose row it is concerns nobody here
    follow(site, found)
    site.wait()
    assert course.execute("select last_name from auth_user").fetchone() == ("Zoë",)
    course.execute(
        "create function public.never() returns trigger language plpgsql as"
        " $$ begin raise exception 'never'; end $$"
    )
    course.execute(
        "create trigger never before delete on course.student_courseenrollment"
        " for each row execute function public.never()"
    )
    course.execute("alter table course.student_courseenrollment enable always trigger never")
    site.execute("delete from student_courseenrollment")
    become(
        site, "stuck", "pending delete on course.student_courseenrollment fails", "P0001: “never"
    )
    course.execute("drop trigger never on course.student_courseenrollment")
    site.wait()
    become(site, "streaming")


@pytest.mark.newest("what a library says, which is quoted as it stands")
def test_a_course_server_that_cannot_reach_the_portal(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    name = sql.Identifier(replication_name(site, "A"))
    before = course.execute(
        "select subconninfo from pg_subscription where subname = %s", (name.as_string().strip('"'),)
    ).fetchone()
    assert before is not None
    course.execute(
        sql.SQL("alter subscription {} connection {}").format(
            name, sql.Literal(before[0].replace("user=postgres", "user=nobody_there"))
        )
    )
    subscriptions = course.execute("select count(*) from pg_subscription").fetchone()
    found = become(site, "stuck", "can't reach the portal", 'role "nobody_there" does not exist')
    assert "--portal-conninfo" in found["remedy"]
    assert course.execute("select count(*) from pg_subscription").fetchone() == subscriptions
    course.execute(
        sql.SQL("alter subscription {} connection {}").format(name, sql.Literal(before[0]))
    )
    become(site, "streaming")
