"""``pysync course remove``: the database keeps its data, the portal keeps nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_cli_course_add import (
    OWN_SUBSCRIPTIONS,
    Start,
    assert_whole,
    enroll_users,
    held_copy,
    new_course,
    slots,
    start,
)
from tests.acceptance.test_cli_process import (
    OwnCluster,
    assert_refused,
    cli,
    courses_of,
    eventually,
    footprint,
    in_terminal,
    succeed,
)
from tests.support import Site, assert_live_rows, enroll, insert_user, run_cli

__all__ = ["start"]


@pytest.fixture(scope="module")
def own_server(major: int, folder: Path) -> Iterator[OwnCluster]:
    """A course server that tests stop."""
    cluster = OwnCluster.start(major, folder, "removed")
    yield cluster
    cluster.server.stop()


def assert_forgotten(site: Site, course_id: str) -> None:
    """The portal has nothing of a course but what applications wrote."""
    assert slots(site) == []
    for query in (
        "select pubname from pg_publication",
        "select 1 from pysync.course where course_id = %s",
        "select 1 from course.auth_user where course_id = %s",
        "select 1 from course.auth_userprofile where course_id = %s",
        "select 1 from course.student_courseenrollment where course_id = %s",
        "select 1 from course.beat where course_id = %s",
    ):
        assert site.execute(query, *[course_id] * query.count("%s")) == [], query
    assert course_id not in courses_of("course", "list", portal=site.portal)


def test_a_removed_course_keeps_its_data_and_can_be_written(site: Site) -> None:
    enroll_users(site, "A", 3)
    site.add("A")
    site.execute("delete from student_courseenrollment where user_id = 1")
    site.wait()
    course = site.course("A")
    rows = course.execute("select * from auth_user order by id").fetchall()
    result = run_cli("course", "remove", "A", "--yes", portal=site.portal)
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        "course 'A' removed: its database keeps its data and is writable\n",
        "",
    )
    assert_forgotten(site, "A")
    assert site.one("select count(*) from student_courseenrollment where course_id = 'A'") == 2
    assert course.execute("select * from auth_user order by id").fetchall() == rows
    assert course.execute(OWN_SUBSCRIPTIONS).fetchall() == []
    origins = course.execute("select count(*) from pg_replication_origin").fetchone()
    assert origins == (0,)

    # Applications there go on alone, with ids that nobody has had.
    (user_id,) = course.execute(
        "insert into auth_user (course_id, username, password) values ('A', 'local', '')"
        " returning id"
    ).fetchone() or (0,)
    assert user_id > max(row[0] for row in rows)
    course.execute(
        "insert into auth_userprofile (course_id, user_id, name) values ('A', %s, 'Local')",
        (user_id,),
    )
    course.execute(
        "insert into student_courseenrollment (course_id, user_id) values ('A', %s)", (user_id,)
    )
    course.execute("update auth_user set email = 'mine@example.org'")
    course.execute("delete from student_courseenrollment")

    # And the portal goes on without them.
    enroll(site, insert_user(site, "late"), "A")
    assert site.one("select count(*) from course.auth_user") == 0
    assert_refused(
        cli("course", "remove", "A", "--yes", portal=site.portal), "course 'A' is not registered"
    )


def test_other_courses_stream_on(site: Site) -> None:
    for course_id in ("A", "B"):
        site.add(course_id)
    user_id = insert_user(site, "ada")
    for course_id in ("A", "B"):
        enroll(site, user_id, course_id)
    succeed("course", "remove", "A", "--yes", portal=site.portal)
    site.execute("update auth_user set email = 'new@example.org'")
    site.wait("B")
    assert_live_rows(site, "B")
    assert courses_of("status", portal=site.portal)["B"]["state"] == "streaming"


def test_a_course_whose_server_is_down_is_removed_by_force_only(
    site: Site, own_server: OwnCluster
) -> None:
    enroll_users(site, "A", 3)
    site.add("A", site.new_database(own_server))
    site.wait()
    own_server.server.stop()
    try:
        before = footprint(site.portal)
        assert_refused(
            cli("course", "remove", "A", "--yes", portal=site.portal),
            "can't be reached",
            "bring it back",
            "--force",
        )
        assert footprint(site.portal) == before
        assert succeed("course", "remove", "A", "--yes", "--force", portal=site.portal) == (
            "course 'A' removed on the portal; its database wasn't reached\n"
        )
        assert_forgotten(site, "A")
    finally:
        own_server.server.start()
    # It has come back after all: its worker finds neither slot nor publication, and makes none.
    course = site.course("A")
    assert course.execute("select count(*) from auth_user").fetchone() == (3,)
    assert slots(site) == []


@pytest.mark.newest
def test_a_course_whose_server_does_not_answer_is_removed_by_force(
    site: Site, own_server: OwnCluster
) -> None:
    site.add("A", site.new_database(own_server))
    with own_server.frozen():
        succeed("course", "remove", "A", "--yes", "--force", portal=site.portal)
        assert_forgotten(site, "A")


@pytest.mark.newest
def test_a_course_whose_database_is_gone_is_removed_by_force(
    site: Site, own_server: OwnCluster
) -> None:
    database = site.new_database(own_server)
    site.add("A", database)
    own_server.drop(database)
    assert_refused(
        cli("course", "remove", "A", "--yes", portal=site.portal), "does not exist", "--force"
    )
    succeed("course", "remove", "A", "--yes", "--force", portal=site.portal)
    assert_forgotten(site, "A")
    succeed("course", "add", "A", new_course(site, "A"), portal=site.portal)
    assert_whole(site, "A")


@pytest.mark.newest
@pytest.mark.parametrize("gone", [False, True], ids=["reachable", "gone"])
def test_a_course_that_is_being_copied_leaves_no_synchronization_slot(
    site: Site, own_server: OwnCluster, start: Start, gone: bool
) -> None:
    enroll_users(site, "A", 3)
    new_course(site, "A", own_server)
    with held_copy(site, start) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert [name for name in slots(site) if "_sync_" in name]
        if gone:
            own_server.server.kill()
            try:
                succeed("course", "remove", "A", "--yes", "--force", portal=site.portal)
                assert_forgotten(site, "A")
            finally:
                own_server.server.start()
            site.course("A")
            return
        succeed("course", "remove", "A", "--yes", portal=site.portal)
        assert_forgotten(site, "A")


@pytest.mark.newest
@pytest.mark.parametrize(
    "at",
    ["select pg_catalog.pg_drop_replication_slot", "drop publication", "delete from"],
    ids=["slot", "publication", "rows"],
)
def test_a_removal_that_is_interrupted_is_finished_by_the_next(
    site: Site, start: Start, at: str
) -> None:
    enroll_users(site, "A", 3)
    site.add("A")
    site.wait()
    blocker = site.connect()
    blocker.execute("begin")
    blocker.execute(
        "lock table course.student_courseenrollment in row exclusive mode"
        if at == "drop publication"
        else "select from course.student_courseenrollment for update"
    )
    if at.startswith("select"):
        process = start("course", "remove", "A", "--yes")
        eventually(lambda: site.course("A").execute(OWN_SUBSCRIPTIONS).fetchall() == [])
    else:
        process = start("course", "remove", "A", "--yes")
        eventually(
            lambda: (
                site.execute(
                    "select true from pg_stat_activity where application_name = 'pysync'"
                    " and datname = current_database() and wait_event_type = 'Lock'"
                )
                or process.poll() is not None
            )
        )
    process.kill()
    process.communicate()
    blocker.execute("rollback")
    if site.execute("select 1 from pysync.course"):
        (found,) = courses_of("status", portal=site.portal).values()
        assert found["state"] in ("incomplete", "lost")
        succeed("course", "remove", "A", "--yes", portal=site.portal)
    assert_forgotten(site, "A")
    site.course("A").execute("update auth_user set email = ''")


@pytest.mark.newest
def test_a_terminal_is_asked_and_no_means_no(site: Site) -> None:
    site.add("A")
    before = footprint(site.portal, site.databases["A"])
    status, shown = in_terminal("course", "remove", "A", portal=site.portal, answer="n\n")
    assert "End replication to course 'A'?" in shown
    assert status == 1
    assert footprint(site.portal, site.databases["A"]) == before
    status, shown = in_terminal("course", "remove", "A", portal=site.portal, answer="y\n")
    assert status == 0
    assert_forgotten(site, "A")


@pytest.mark.newest
def test_a_database_that_has_moved_is_found_by_conninfo(site: Site) -> None:
    site.add("A")
    site.execute("update pysync.course set conninfo = 'host=127.0.0.1 port=1'")
    succeed(
        "course",
        "remove",
        "A",
        "--yes",
        "--conninfo",
        site.databases["A"],
        portal=site.portal,
    )
    assert_forgotten(site, "A")
    site.course("A").execute("delete from auth_user")
