"""``pysync course pause``, ``resume`` and ``move``."""

from __future__ import annotations

import json
import signal
import threading

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.acceptance.test_cli_course_add import Start, enroll_users, start
from tests.acceptance.test_cli_process import assert_refused, cli, read_json, succeed
from tests.acceptance.test_cli_resync import (
    assert_equal_to_the_fan_out,
    assert_sound,
    extend,
)
from tests.acceptance.test_cli_status import alter_subscription, replication_name, state_of
from tests.support import Cluster, Site, enroll, eventually, insert_user

pytestmark = pytest.mark.oldest_and_newest("how slots and subscriptions are taken over")

__all__ = ["start"]


@pytest.mark.also_granted("the whole command")
@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_course_is_paused_and_resumed(site: Site) -> None:
    site.add("A")
    assert "would be paused" in succeed("course", "pause", "A", "--dry-run", portal=site.portal)
    assert state_of(site, "A") == "streaming"
    said = succeed("course", "pause", "A", portal=site.portal)
    assert "course 'A' paused: the portal keeps WAL for it from now on" in said
    assert "max_slot_wal_keep_size" in said
    assert state_of(site, "A") == "paused"
    # What it doesn't consume would keep pg_upgrade from beginning.
    assert kept(site) == {"course_id": "A", "slot": False, "subscription": True}
    assert "is paused already" in succeed("course", "pause", "A", portal=site.portal)
    enroll(site, insert_user(site, "ada"), "A")
    assert "would be resumed" in succeed("course", "resume", "A", "--dry-run", portal=site.portal)
    assert state_of(site, "A") == "paused"
    assert "course 'A' resumed" in succeed("course", "resume", "A", portal=site.portal)
    assert_equal_to_the_fan_out(site, "A")
    assert "isn't paused" in succeed("course", "resume", "A", portal=site.portal)
    assert kept(site) == {"course_id": "A", "slot": True, "subscription": True}


def kept(site: Site) -> dict[str, object]:
    """Return what an upgrade of servers would take along of the only course."""
    result = cli("upgrade", "check", "--format", "json", portal=site.portal)
    found = json.loads(result.stdout)
    (course,) = found["courses"]
    is_open = [each for each in found["findings"] if each["course_id"] and each["must"]]
    assert [each["commands"] for each in is_open] == (
        [] if course["slot"] else [["pysync course resume A"]]
    )
    assert isinstance(course, dict)
    return course


def copy_database(site: Site, course_id: str, cluster: Cluster) -> str:
    """Copy a course's database as a dump does, its disabled subscription included."""
    old = conninfo_to_dict(site.databases[course_id])["dbname"]
    return cluster_copy(site, cluster, str(old))


def cluster_copy(site: Site, cluster: Cluster, template: str) -> str:
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
            (template,),
        )
    return site.new_database(cluster, template=template)


@pytest.mark.also_granted("the whole command")
def test_a_course_moves_to_a_copy_of_its_database(site: Site) -> None:
    enroll_users(site, "A", 50)
    site.add("A")
    extend(site, "A")
    old = site.databases["A"]
    succeed("course", "pause", "A", portal=site.portal)
    for connection in site._connections:
        connection.close()
    copy = copy_database(site, "A", site.course_server)
    # As pg_dump writes it.
    name = replication_name(site, "A")
    with psycopg.connect(copy, autocommit=True) as connection:
        connection.execute(
            f"create subscription {name} connection 'dbname=x password=x' publication {name}"
            f" with (connect = false, slot_name = '{name}')"
        )
    succeed("course", "resume", "A", portal=site.portal)
    site.execute("delete from student_courseenrollment where user_id % 5 = 1")
    site.execute("update auth_user set email = 'moved' where id % 5 = 2")
    enroll(site, insert_user(site, "late"), "A")
    site.wait("A")

    plan = json.loads(
        succeed("course", "move", "A", copy, "--dry-run", "--format", "json", portal=site.portal)
    )
    found = {each["table"]: each for each in plan["differences"]}
    assert found["auth_user"]["insert"] == 1
    assert found["auth_user"]["update"] == 10
    assert found["student_courseenrollment"]["remove"] == 10
    assert state_of(site, "A") == "streaming"

    done = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            number = 0
            while not done.is_set():
                number += 1
                enroll(site, insert_user(site, f"during{number}"), "A")
        except BaseException as failure:  # noqa: BLE001 - the main thread raises it
            failures.append(failure)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = cli("course", "move", "A", copy, portal=site.portal)
    finally:
        done.set()
        writer.join()
    assert not failures
    assert result.returncode == 0, result.stderr
    site.databases["A"] = copy
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)
    course = site.course("A")
    assert course.execute("select karma from auth_user where id = 7").fetchone() == (1007,)
    assert course.execute("select count(*) from public.post").fetchone() == (50,)
    # The old database is given back, and gets nothing any more.
    with psycopg.connect(old, autocommit=True) as connection:
        assert connection.execute("select count(*) from pg_subscription_rel").fetchone() == (0,)
        connection.execute("update course.auth_user set email = 'free' where id = 1")


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_course_moves_to_an_empty_database_on_another_server(site: Site) -> None:
    enroll_users(site, "A", 20)
    site.add("A")
    new = site.new_database(site.portal_server)
    assert_refused(cli("course", "move", "A", new, portal=site.portal), "isn't a copy", "--fresh")
    result = cli(
        *("course", "move", "A", new, "--fresh", "--portal-conninfo", site.portal),
        portal=site.portal,
        PYSYNC_SUBSCRIPTION_PASSWORD="hush",
    )
    assert result.returncode == 0, result.stderr
    assert "hush" not in result.stdout + result.stderr
    assert "hush" not in str(site.execute("select * from pysync.course"))
    given = "select substring(subconninfo from 'password=(\\S+)') from pg_subscription"
    given += " where subdbid = (select oid from pg_database where datname = current_database())"
    with psycopg.connect(new, autocommit=True) as connection:
        assert connection.execute(given.encode()).fetchall() == [("hush",)]
        # A password alone is no less a new way there.
        add = ("course", "add", "A", new, "--portal-conninfo", site.portal)
        succeed(*add, portal=site.portal, PYSYNC_SUBSCRIPTION_PASSWORD="hush-again")
        assert connection.execute(given.encode()).fetchall() == [("hush-again",)]
    site.databases["A"] = new
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)
    # Once more is no mistake.
    succeed("course", "move", "A", new, "--fresh", portal=site.portal)
    assert_sound(site)


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_course_whose_old_database_is_gone_moves_by_force(site: Site) -> None:
    enroll_users(site, "A", 5)
    site.add("A")
    alter_subscription(site, "A", "disable")
    site.execute(
        "update pysync.course set conninfo = %s",
        make_conninfo(site.databases["A"], dbname="nobody_made_it"),
    )
    new = site.new_database()
    command = ("course", "move", "A", new, "--fresh")
    assert_refused(cli(*command, portal=site.portal), "nobody_made_it", "--force")
    succeed(*command, "--force", portal=site.portal)
    site.databases["A"] = new
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)


@pytest.mark.newest("marks are rows of ours")
def test_a_copy_that_somebody_has_had_stream_is_merged_nevertheless(site: Site) -> None:
    enroll_users(site, "A", 5)
    site.add("A")
    old, name = site.databases["A"], replication_name(site, "A")
    succeed("course", "pause", "A", portal=site.portal)
    copy = copy_database(site, "A", site.course_server)
    succeed("course", "resume", "A", portal=site.portal)
    site.execute("update auth_user set email = 'only there'")
    site.wait("A")
    alter_subscription(site, "A", "disable")
    busy = "select active from pg_replication_slots where slot_name = %s"
    eventually(lambda: not site.one(busy, name))
    with psycopg.connect(copy, autocommit=True) as connection:
        connection.execute(
            f"create subscription {name} connection '{site.portal}' publication {name}"
            f" with (create_slot = false, copy_data = false, slot_name = '{name}')"
        )
    eventually(lambda: site.one(busy, name))
    gone = make_conninfo(old, dbname="nobody_made_it")
    site.execute("update pysync.course set conninfo = %s", gone)
    assert "moved" in succeed("course", "move", "A", copy, "--force", portal=site.portal)
    site.databases["A"] = copy
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_move_that_is_killed_is_finished_by_the_next(site: Site, start: Start) -> None:
    enroll_users(site, "A", 5)
    site.add("A")
    new = site.new_database()
    application = site.connect()
    application.execute("begin")
    application.execute("insert into auth_user (username, password) values ('held', '')")
    process = start("course", "move", "A", new, "--fresh")
    eventually(
        lambda: site.execute(
            "select true from pg_stat_activity where application_name = 'pysync'"
            " and backend_type = 'walsender' and wait_event_type = 'Lock'"
        )
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    application.execute("commit")
    assert state_of(site, "A") == "paused"
    enroll(site, insert_user(site, "meanwhile"), "A")
    # It can stay where it was, and then move after all.
    succeed("course", "resume", "A", portal=site.portal)
    assert_equal_to_the_fan_out(site, "A")
    succeed("course", "move", "A", new, "--fresh", portal=site.portal)
    site.databases["A"] = new
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)


@pytest.mark.newest("the order of our own steps")
def test_a_durable_course_stays_durable(site: Site) -> None:
    enroll_users(site, "A", 2)
    site.databases["A"] = site.new_database()
    succeed("course", "add", "A", site.databases["A"], "--durable", portal=site.portal)
    course, name = site.course("A"), replication_name(site, "A")

    def setting() -> str:
        query = "select subsynccommit from pg_subscription where subname = %s"
        return str(course.execute(query, (name,)).fetchall()[0][0])

    assert setting() == "on"
    # One that is made anew has it, too.
    for statement in ("disable", "set (slot_name = none)"):
        alter_subscription(site, "A", statement)
    course.execute(f"drop subscription {name}")
    succeed("resync", "A", portal=site.portal)
    assert (setting(), state_of(site, "A")) == ("on", "streaming")
    alter_subscription(site, "A", "set (synchronous_commit = off)")
    (found,) = read_json("status", "A", portal=site.portal)["courses"]
    assert (found["state"], found["durable"]) == ("drifted", True)
    course.execute(found["commands"][0].encode())
    assert (setting(), state_of(site, "A")) == ("on", "streaming")
    succeed("course", "durable", "A", "--off", portal=site.portal)
    assert (setting(), state_of(site, "A")) == ("off", "streaming")
    succeed("course", "durable", "A", portal=site.portal)
    assert setting() == "on"
    new = site.new_database()
    succeed("course", "move", "A", new, "--fresh", portal=site.portal)
    site.databases["A"], course = new, site.connect(new)
    assert (setting(), state_of(site, "A")) == ("on", "streaming")
