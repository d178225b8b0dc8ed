"""``pysync course remove``: the database keeps its data, the portal keeps nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import sql

from pysync.replication import registry, subscriptions
from pysync.types import CourseId
from tests.acceptance.test_cli_course_add import (
    OWN_SUBSCRIPTIONS,
    Start,
    assert_whole,
    enroll_users,
    held_slot,
    new_course,
    slots,
    start,
)
from tests.acceptance.test_cli_process import (
    OwnCluster,
    assert_refused,
    cli,
    courses_of,
    footprint,
    in_terminal,
    succeed,
)
from tests.support import (
    Site,
    as_superuser,
    assert_live_rows,
    enroll,
    eventually,
    insert_user,
    run_cli,
)

pytestmark = pytest.mark.newest("the order of our own steps, whichever server does them")

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
        "select 1 from course.mark where course_id = %s",
    ):
        assert site.execute(query, *[course_id] * query.count("%s")) == [], query
    assert course_id not in courses_of("course", "list", portal=site.portal)


@pytest.mark.also_granted("the whole command")
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
    superuser = site.connect(as_superuser(site.databases["A"]))
    assert superuser.execute(OWN_SUBSCRIPTIONS).fetchall() == []
    origins = superuser.execute("select count(*) from pg_replication_origin").fetchone()
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


def test_a_course_whose_server_does_not_answer_is_removed_by_force(
    site: Site, own_server: OwnCluster
) -> None:
    site.add("A", site.new_database(own_server))
    with own_server.frozen():
        succeed("course", "remove", "A", "--yes", "--force", portal=site.portal)
        assert_forgotten(site, "A")


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


@pytest.mark.oldest_and_newest("what dropping a subscription, and a failing worker, leave behind")
@pytest.mark.parametrize("gone", [False, True], ids=["reachable", "gone"])
def test_a_first_copy_that_goes_on_failing_leaves_no_synchronization_slot(
    site: Site, own_server: OwnCluster, start: Start, gone: bool
) -> None:
    enroll_users(site, "A", 3)
    new_course(site, "A", own_server)
    course = site.course("A")
    with held_slot(site, start) as process:
        course.execute("alter table course.auth_user add constraint no check (id <> 2)")
        process.send_signal(signal.SIGKILL)
        process.communicate()
    # What the killed run would have done next; its server process may have made the slot, or have
    # noticed that nobody waits for it.
    name = site.one("select replication_name from pysync.course")
    eventually(
        lambda: (
            not site.one(
                "select count(*) from pg_stat_activity"
                " where application_name = 'pysync' and datname = current_database()"
            )
        )
    )
    if name not in slots(site):
        site.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", name)
    with closing(registry.connect_portal(site.portal)) as portal:
        added = registry.get(portal, CourseId("A"))
        oid = subscriptions.create(course, added, site.portal).oid
        registry.record_subscription(portal, added.course_id, oid)
    course.execute(sql.SQL("alter subscription {} enable").format(sql.Identifier(name)))
    eventually(lambda: [slot for slot in slots(site) if "_sync_" in slot])
    if gone:
        own_server.kill()
    try:
        # One that fails drops its slot before it makes the next.
        eventually(lambda: len(slots(site)) > 1)
        force = ["--force"] if gone else []
        succeed("course", "remove", "A", "--yes", *force, portal=site.portal)
        assert_forgotten(site, "A")
    finally:
        if gone:
            own_server.server.start()


def test_a_removal_that_cannot_get_its_locks_changes_nothing(site: Site) -> None:
    site.add("A")
    before = footprint(site.portal, site.databases["A"])
    application = site.course("A")
    application.execute("begin")
    application.execute("update auth_user set last_login = now()")
    result = cli("course", "remove", "A", "--yes", portal=site.portal)
    assert_refused(result, "busy", "nothing was changed")
    assert footprint(site.portal, site.databases["A"]) == before
    application.execute("rollback")
    succeed("course", "remove", "A", "--yes", portal=site.portal)


@pytest.mark.parametrize(
    ("where", "statement"),
    [
        ("course", "update auth_user set last_login = now()"),
        ("portal", "update student_courseenrollment set created = now()"),
        ("portal", "select from course.student_courseenrollment for update"),
    ],
    ids=["subscription", "slot", "fan-out"],
)
def test_a_removal_that_is_killed_is_finished_by_the_next(
    site: Site, start: Start, where: str, statement: str
) -> None:
    """Killed where it waits for an application, with the step of its id behind it."""
    enroll_users(site, "A", 3)
    site.add("A")
    site.wait()
    application = site.connect() if where == "portal" else site.course("A")
    application.execute("begin")
    application.execute(statement)
    process = start("course", "remove", "A", "--yes")
    observer = site.connect(site.portal if where == "portal" else site.databases["A"])
    eventually(
        lambda: observer.execute(
            "select true from pg_locks where not granted and pid in"
            " (select pid from pg_stat_activity where application_name = 'pysync')"
            " and database = (select oid from pg_database where datname = current_database())"
            " or not granted and transactionid is not null"
        ).fetchall()
    )
    process.kill()
    process.communicate()
    application.execute("rollback")
    (found,) = courses_of("status", portal=site.portal).values()
    assert found["state"] in ("streaming", "incomplete", "lost")
    succeed("course", "remove", "A", "--yes", portal=site.portal)
    assert_forgotten(site, "A")
    site.course("A").execute("update auth_user set email = ''")


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
