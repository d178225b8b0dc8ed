"""Deleting a user on the portal erases it in every course, frozen copies included."""

from __future__ import annotations

import pytest

from tests.integration.fan_out import App, copy_of, differences, names
from tests.support import Site, assert_live_rows

pytestmark = pytest.mark.every_major("what erases is carried by replication")

SCRUBBED = {
    "first_name": "",
    "last_name": "",
    "email": "",
    "password": "!",
    "last_login": None,
    "is_active": False,
    "is_staff": False,
    "is_superuser": False,
}
PERSONAL = {
    "first_name": "Ada",
    "last_name": "Lovelace",
    "last_login": "2013-01-01",
    "is_staff": True,
    "is_superuser": True,
}


def scrubbed(site: Site, user_id: int, course_id: str) -> bool:
    columns = ", ".join(SCRUBBED)
    expected = (f"deleted-{user_id}", *SCRUBBED.values())
    return copy_of(site, user_id, course_id, f"username, {columns}") == expected


def test_deleting_a_user_erases_profile_and_enrollments_and_scrubs_the_user_row(
    own_app: App,
) -> None:
    app, site = own_app, own_app.site
    site.add("A")
    ada, bob = app.user("ada", **PERSONAL), app.user("bob")
    for user in (ada, bob):
        app.profile(user, name="someone")
        app.enroll(user, "A")
    app.execute("delete from auth_user where id = %s", ada)
    site.wait()
    course = site.course("A")
    columns = ", ".join(SCRUBBED)
    assert course.execute(
        f"select username, {columns} from auth_user where id = %s", (ada,)
    ).fetchall() == [(f"deleted-{ada}", *SCRUBBED.values())]
    for table in ("auth_userprofile", "student_courseenrollment"):
        assert course.execute(f"select user_id from {table}").fetchall() == [(bob,)]
    assert_live_rows(site, "A")


def test_frozen_copies_are_erased_too_with_their_frozen_profiles(app: App) -> None:
    site = app.site
    site.register_only("A", "B", "C")
    ada = app.user("ada", **PERSONAL)
    app.profile(ada, name="Ada")
    app.enroll(ada, "A", "B", "C")
    app.unenroll(ada, "A", "B")
    app.execute("delete from auth_userprofile")  # the frozen profiles outlive it
    assert site.one("select count(*) from course.auth_userprofile") == 2
    app.execute("delete from auth_user")
    assert all(scrubbed(site, ada, course) for course in "ABC")
    for table in ("auth_userprofile", "student_courseenrollment"):
        assert site.execute(f"select * from course.{table}") == []
    assert differences(site) == []


def test_a_statement_may_delete_many_users_and_spares_the_others(app: App) -> None:
    site = app.site
    site.register_only("A", "B")
    users = [app.user(f"user-{number}", **PERSONAL) for number in range(4)]
    for user in users:
        app.profile(user)
        app.enroll(user, "A", "B")
    app.execute("delete from auth_user where id = any(%s)", users[:3])
    assert all(scrubbed(site, user, course) for user in users[:3] for course in "AB")
    assert names(site, "A")[users[3]] == names(site, "B")[users[3]] == "user-3"
    assert differences(site) == []


def test_somebody_live_keeps_the_name_that_a_deleted_user_would_get(app: App) -> None:
    site = app.site
    site.register_only("A")
    ada = app.user("ada", **PERSONAL)
    bob = app.user(f"deleted-{ada}")
    app.enroll(ada, "A")
    app.enroll(bob, "A")
    app.execute("delete from auth_user where id = %s", ada)
    assert names(site, "A") == {ada: f"deleted-{ada}~{ada}", bob: f"deleted-{ada}"}
    assert copy_of(site, ada, "A", ", ".join(SCRUBBED)) == tuple(SCRUBBED.values())
    assert differences(site) == []


def test_a_deleted_user_gives_its_name_to_somebody_live_who_comes_later(app: App) -> None:
    site = app.site
    site.register_only("A")
    ada = app.user("ada")
    app.enroll(ada, "A")
    app.execute("delete from auth_user")
    bob = app.user(f"deleted-{ada}")
    app.enroll(bob, "A")
    assert names(site, "A") == {ada: f"deleted-{ada}~{ada}", bob: f"deleted-{ada}"}
    assert differences(site) == []


def test_the_name_of_a_deleted_user_is_free_again(app: App) -> None:
    site = app.site
    site.register_only("A")
    ada = app.user("ada")
    app.enroll(ada, "A")
    app.execute("delete from auth_user")
    app.enroll(app.user("ada"), "A")
    assert sorted(names(site, "A").values()) == ["ada", f"deleted-{ada}"]
    assert differences(site) == []


def test_rows_gone_before_their_user_make_no_difference(app: App) -> None:
    # As Django does it: it deletes what points at a user itself, in the same transaction.
    site = app.site
    site.register_only("A")
    ada = app.user("ada")
    app.profile(ada)
    app.enroll(ada, "A")
    with app.connection.transaction():
        app.execute("delete from student_courseenrollment where user_id = %s", ada)
        app.execute("delete from auth_userprofile where user_id = %s", ada)
        app.execute("delete from auth_user where id = %s", ada)
    assert scrubbed(site, ada, "A")
    assert site.execute("select * from course.auth_userprofile") == []
    assert differences(site) == []


def test_users_that_no_course_holds_are_just_deleted(app: App) -> None:
    site = app.site
    site.register_only("A")
    ada = app.user("ada")
    app.enroll(ada, "default")
    app.execute("delete from auth_user")
    assert site.execute("select * from student_courseenrollment") == []
    assert names(site, "A") == {}
