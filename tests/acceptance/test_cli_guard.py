"""``pysync guard``, and slots that the server itself gives up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.acceptance.test_cli_course_add import enroll_users, slots
from tests.acceptance.test_cli_process import cli, courses_of, launch, succeed
from tests.acceptance.test_cli_resync import assert_equal_to_the_fan_out, assert_sound
from tests.acceptance.test_cli_status import alter_subscription, replication_name, state_of
from tests.support import Site, enroll, eventually, insert_user

pytestmark = pytest.mark.oldest_and_newest("when a slot is given up, and what the server then says")

LOOKS = ("--max-retained", "8MB", "--interval", "0.4")


def write_wal(site: Site, megabytes: int) -> None:
    """Fill the portal's WAL with what no course needs."""
    with site.connect() as portal:
        for _ in range(megabytes):
            portal.execute("select pg_logical_emit_message(false, 'x', repeat('x', 1024 * 1024))")


@pytest.fixture
def dead_and_healthy(site: Site) -> Site:
    enroll_users(site, "healthy", 3)
    site.add("healthy")
    site.add("dead")
    alter_subscription(site, "dead", "disable")
    eventually(
        lambda: site.execute(
            "select true from pg_replication_slots where slot_name = %s and not active",
            replication_name(site, "dead"),
        )
    )
    write_wal(site, 12)
    return site


@pytest.mark.also_granted("the whole command")
@pytest.mark.newest("rules of ours")
def test_a_dead_course_is_sacrificed_and_a_healthy_one_never(dead_and_healthy: Site) -> None:
    site = dead_and_healthy
    name = replication_name(site, "dead")
    before = slots(site)
    said = succeed("guard", "--once", "--dry-run", *LOOKS, portal=site.portal)
    assert "course 'dead' retains" in said
    assert "would be dropped" in said
    assert slots(site) == before
    within = ("--max-retained", "100GB", "--interval", "0.1")
    assert "no course retains more" in succeed("guard", "--once", *within, portal=site.portal)
    assert slots(site) == before

    said = succeed("guard", "--once", *LOOKS, portal=site.portal)
    assert "course 'dead' retains 1" in said
    assert "more than 8.0 MiB: slot dropped" in said
    assert "; run:\n    pysync resync dead\n  once its database is back\n" in said
    assert slots(site) == sorted({*before} - {name})
    assert state_of(site, "dead") == "lost"
    (told,) = courses_of("status", "dead", portal=site.portal).values()
    assert "was given up by 'pysync guard'" in told["cause"]
    assert state_of(site, "healthy") == "streaming"
    assert site.one("select sacrificed_at is not null from pysync.course where course_id = 'dead'")

    enroll(site, insert_user(site, "missed"), "dead")
    succeed("resync", "dead", portal=site.portal)
    assert_equal_to_the_fan_out(site, "dead")
    assert state_of(site, "dead") == "streaming"
    assert site.one("select sacrificed_at is null from pysync.course where course_id = 'dead'")


@pytest.mark.newest("a rule of ours")
def test_a_connected_course_beyond_the_budget_is_left_alone(dead_and_healthy: Site) -> None:
    site = dead_and_healthy
    alter_subscription(site, "dead", "enable")
    eventually(lambda: state_of(site, "dead") == "streaming")
    # Connected, and kept from moving by a lock in its database.
    with psycopg.connect(site.databases["dead"]) as session:
        session.execute("lock table course.auth_user in share mode")
        enroll(site, insert_user(site, "waits"), "dead")
        write_wal(site, 12)
        before = slots(site)
        said = succeed("guard", "--once", *LOOKS, portal=site.portal)
        assert "course 'dead' retains" in said
        assert "left alone" in said
        assert slots(site) == before


@pytest.mark.newest("a loop of ours")
def test_the_guard_goes_on_until_it_is_stopped_and_survives_a_bad_moment(
    dead_and_healthy: Site,
) -> None:
    site = dead_and_healthy
    name = replication_name(site, "dead")
    with launch("guard", *LOOKS, portal=site.portal) as process:
        # The first connections are cut off.
        eventually(
            lambda: (
                site.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = 'pysync' and datname = current_database()"
                )
                or name not in slots(site)
            )
        )
        eventually(lambda: name not in slots(site))
        said = iter(process.stderr.readline, "")
        dropped = next(line for line in said if "course 'dead' retains" in line)
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ WARNING ", dropped)
        assert process.poll() is None
        process.terminate()
        process.communicate()


@pytest.mark.newest("what the command line makes of its input, whatever the server")
def test_a_size_that_is_none_is_a_usage_error(site: Site) -> None:
    for size in ("much", "-1", "10XB", ""):
        result = cli("guard", "--once", f"--max-retained={size}", portal=site.portal)
        assert result.returncode == 2


@contextmanager
def small_keep_size(site: Site) -> Iterator[None]:
    with site.connect() as portal:
        portal.execute("alter system set max_slot_wal_keep_size = '1MB'")
        portal.execute("select pg_reload_conf()")
        try:
            yield
        finally:
            portal.execute("alter system reset max_slot_wal_keep_size")
            portal.execute("select pg_reload_conf()")


def test_a_course_whose_slot_was_invalidated_is_recovered(site: Site) -> None:
    enroll_users(site, "A", 20)
    site.add("A")
    site.course("A").execute(
        "alter table course.auth_user add column karma integer not null default 1;"
        "update course.auth_user set karma = id + 1000"
    )
    alter_subscription(site, "A", "disable")
    enroll(site, insert_user(site, "missed"), "A")
    with small_keep_size(site), site.connect() as portal:

        def lost() -> bool:
            write_wal(site, 2)
            portal.execute("select pg_switch_wal()")
            portal.execute("checkpoint")
            return bool(
                portal.execute(
                    "select true from pg_replication_slots where slot_name = %s"
                    " and wal_status = 'lost'",
                    (replication_name(site, "A"),),
                ).fetchall()
            )

        eventually(lost, 60)
    assert state_of(site, "A") == "lost"
    succeed("resync", "A", portal=site.portal)
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)
    assert site.course("A").execute(
        "select count(*) from auth_user where karma = id + 1000"
    ).fetchone() == (20,)
