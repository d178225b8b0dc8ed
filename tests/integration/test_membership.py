"""A course database holds exactly the users enrolled in it, now or once."""

from __future__ import annotations

from tests.support import Site, assert_live_rows, enroll, insert_user, unenroll


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
