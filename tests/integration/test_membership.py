"""A course database holds exactly the users enrolled in it, now or once."""

from __future__ import annotations

import psycopg
import pytest

from pysync.replication import fan_out, registry
from pysync.replication.registry import Course
from pysync.types import CourseId
from tests.integration.fan_out import App, copy_of, differences, names
from tests.support import Rows, Site, assert_live_rows, enroll, insert_user, unenroll

pytestmark = pytest.mark.oldest_and_newest("the path from the portal into a course")


def profiles(site: Site, course_id: str) -> Rows:
    return site.execute(
        "select user_id, id, name from course.auth_userprofile where course_id = %s order by 1",
        course_id,
    )


def test_enrolling_brings_user_profile_and_enrollment_in_one_transaction(site: Site) -> None:
    site.add("A")
    site.add("B")
    ada = insert_user(site, "ada")
    site.execute("insert into auth_userprofile (user_id, name) values (%s, 'Ada')", ada)
    enroll(site, ada, "A")
    site.wait()
    assert_live_rows(site, "A")
    assert site.course("A").execute("select username from auth_user").fetchall() == [("ada",)]
    assert site.course("A").execute("select name from auth_userprofile").fetchall() == [("Ada",)]
    assert site.course("B").execute("select count(*) from auth_user").fetchall() == [(0,)]


def test_unenrolling_freezes_and_enrolling_again_refreshes(site: Site) -> None:
    site.add("A")
    ada = insert_user(site, "ada")
    site.execute("insert into auth_userprofile (user_id, name) values (%s, 'Ada')", ada)
    enroll(site, ada, "A")
    unenroll(site, ada, "A")
    site.execute("update auth_user set email = 'new@example.org' where id = %s", ada)
    site.execute("update auth_userprofile set name = 'New' where user_id = %s", ada)
    site.wait()
    course = site.course("A")
    assert course.execute("select * from student_courseenrollment").fetchall() == []
    assert course.execute("select email from auth_user").fetchall() == [("ada@example.org",)]
    assert course.execute("select name from auth_userprofile").fetchall() == [("Ada",)]
    enroll(site, ada, "A")
    site.wait()
    assert_live_rows(site, "A")
    assert course.execute("select email from auth_user").fetchall() == [("new@example.org",)]


def test_users_without_a_profile_are_members_too(app: App) -> None:
    app.site.register_only("A")
    ada = app.user("ada")
    app.enroll(ada, "A")
    assert names(app.site, "A") == {ada: "ada"}
    assert profiles(app.site, "A") == []
    assert differences(app.site) == []


def test_a_profile_follows_its_member_wherever_enrolled_and_nowhere_else(app: App) -> None:
    site = app.site
    site.register_only("A", "B", "C")
    ada = app.user("ada")
    app.enroll(ada, "A", "B")
    profile = app.profile(ada, name="first")
    assert profiles(site, "A") == profiles(site, "B") == [(ada, profile, "first")]
    app.execute("update auth_userprofile set name = 'second', goals = 'all'")
    assert profiles(site, "B") == [(ada, profile, "second")]
    assert differences(site) == []
    app.execute("delete from auth_userprofile")
    assert profiles(site, "A") == profiles(site, "B") == profiles(site, "C") == []


@pytest.mark.oldest_and_newest("what a setting of a session does to policies")
def test_a_session_without_row_security_writes_as_any_other(app: App) -> None:
    """As one that restores a dump: what pg_dump writes begins with it."""
    app.site.register_only("A", "B")
    app.execute("set row_security = off")
    ada, bob = app.user("ada"), app.user("bob")
    profile = app.profile(ada)
    app.enroll(ada, "A", "B")
    app.enroll(bob, "A")
    app.execute("update auth_user set username = 'countess', email = 'x' where id = %s", ada)
    app.execute("update auth_userprofile set name = 'second'")
    assert profiles(app.site, "A") == profiles(app.site, "B") == [(ada, profile, "second")]
    app.unenroll(ada, "B")
    app.execute("delete from auth_userprofile")
    app.execute("delete from auth_user where id = %s", bob)
    assert names(app.site, "A") == {ada: "countess", bob: f"deleted-{bob}"}
    assert differences(app.site) == []


def test_one_statement_may_enroll_in_several_courses(app: App) -> None:
    app.site.register_only("A", "B", "C", "D")
    ada, bob = app.user("ada"), app.user("bob")
    app.profile(ada)
    app.enroll(ada, "A", "B", "C")
    app.enroll(bob, "C")
    assert [list(names(app.site, course)) for course in "ABCD"] == [[ada], [ada], [ada, bob], []]
    assert differences(app.site) == []


def test_leaving_one_course_changes_nothing_in_another(app: App) -> None:
    app.site.register_only("A", "B")
    ada = app.user("ada")
    app.enroll(ada, "A", "B")
    app.unenroll(ada, "A")
    app.execute("update auth_user set email = 'new@example.org'")
    assert copy_of(app.site, ada, "A", "live, email") == (False, "ada@example.org")
    assert copy_of(app.site, ada, "B", "live, email") == (True, "new@example.org")
    assert differences(app.site) == []


@pytest.mark.parametrize(
    "change",
    [
        "update auth_userprofile set name = 'later'",
        "delete from auth_userprofile",
        "with gone as (delete from auth_userprofile returning user_id)"
        " insert into auth_userprofile (user_id, name) select user_id, 'anew' from gone",
        "update auth_user set email = '', last_login = now(), is_active = false, password = ''",
    ],
)
def test_frozen_copies_stay_as_they_are_until_enrolled_again(app: App, change: str) -> None:
    site = app.site
    site.register_only("A")
    ada = app.user("ada")
    app.profile(ada, name="before")
    app.enroll(ada, "A")
    app.unenroll(ada, "A")
    frozen = copy_of(site, ada, "A", "*"), profiles(site, "A")
    app.execute(change)
    assert (copy_of(site, ada, "A", "*"), profiles(site, "A")) == frozen
    assert site.execute("select * from course.student_courseenrollment") == []
    app.enroll(ada, "A")
    assert differences(site) == []


def test_a_profile_made_while_frozen_arrives_with_the_next_enrollment(app: App) -> None:
    app.site.register_only("A")
    ada = app.user("ada")
    app.enroll(ada, "A")
    app.unenroll(ada, "A")
    app.profile(ada)
    assert profiles(app.site, "A") == []
    app.enroll(ada, "A")
    assert differences(app.site) == []


def test_a_profile_that_came_back_under_another_id_reaches_the_course(own_app: App) -> None:
    app, site = own_app, own_app.site
    site.add("A")
    ada, bob = app.user("ada"), app.user("bob")
    old_id = app.profile(ada, name="old")
    app.enroll(ada, "A")
    app.unenroll(ada, "A")
    app.execute("delete from auth_userprofile")
    app.profile(bob, id=old_id, name="takes the id over")
    app.profile(ada, name="new")
    app.enroll(bob, "A")
    app.enroll(ada, "A")
    assert differences(site) == []
    site.wait()
    assert_live_rows(site, "A")


def test_enrollments_in_default_and_unregistered_courses_are_accepted_and_go_nowhere(
    app: App,
) -> None:
    site = app.site
    site.register_only("A")
    ada = app.user("ada")
    app.enroll(ada, "default", "not registered")
    app.execute("update student_courseenrollment set created = null where course_id = 'default'")
    app.profile(ada)
    app.unenroll(ada, "not registered")
    for table in ("auth_user", "auth_userprofile", "student_courseenrollment"):
        assert site.execute(f"select * from course.{table}") == []


def test_registering_a_course_later_backfills_it(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "BACKFILL_BATCH", 2)
    site = app.site
    site.register_only("A")
    users = [app.user(f"user-{number}") for number in range(5)] + [app.user("negative", id=-1)]
    for user in users:
        app.enroll(user, "A", "late")
    app.profile(users[1], name="one")
    app.unenroll(users[4], "late")
    outsider = app.user("outsider")
    app.enroll(outsider, "A")
    with site.connect() as portal:
        course = CourseId("late")
        registry.register(portal, Course(course, "late", "", "", ""))
        # What triggers do between registration and backfill must be neither lost nor undone.
        app.execute("update auth_user set email = 'new@example.org' where id = %s", users[0])
        app.unenroll(users[2], "late")
        app.enroll(users[4], "late")
        batches: list[int] = []
        fan_out.backfill(portal, course, batches.append)
    assert sum(batches) == 5
    assert max(batches) == 2
    assert sorted(names(site, "late")) == sorted(set(users) - {users[2]})
    assert differences(site) == []


def test_backfill_may_be_run_again(app: App) -> None:
    site = app.site
    ada = app.user("ada")
    app.profile(ada)
    app.enroll(ada, "late")
    site.register_only("late")
    with site.connect() as portal:
        for _ in range(2):
            fan_out.backfill(portal, CourseId("late"), lambda _: None)
    assert differences(site) == []


def test_what_is_rolled_back_leaves_nothing(app: App) -> None:
    app.site.register_only("A")
    ada = app.user("ada")
    with app.connection.transaction():
        app.execute("savepoint before_enrolling")
        app.enroll(ada, "A")
        app.execute("rollback to before_enrolling")
        app.profile(ada)
    assert names(app.site, "A") == {}
    assert differences(app.site) == []


def test_enrolling_and_leaving_in_one_transaction_leaves_a_frozen_copy(app: App) -> None:
    app.site.register_only("A")
    ada = app.user("ada")
    with app.connection.transaction():
        app.enroll(ada, "A")
        app.unenroll(ada, "A")
    assert copy_of(app.site, ada, "A", "live") == (False,)
    assert differences(app.site) == []


@pytest.mark.parametrize("level", ["read uncommitted", "read committed", "repeatable read"])
@pytest.mark.parametrize(
    "statement",
    [
        "insert into student_courseenrollment (user_id, course_id) values (4711, 'A')",
        "insert into auth_userprofile (user_id) values (4711)",
    ],
)
def test_rows_before_their_user_are_refused_as_a_foreign_key_would(
    app: App, statement: str, level: str
) -> None:
    app.site.register_only("A")
    app.execute(f"set default_transaction_isolation = '{level}'")
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="4711"):
        app.execute(statement)
