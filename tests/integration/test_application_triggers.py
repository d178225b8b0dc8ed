"""Triggers that the application has on its own tables don't make copies stale or go missing."""

from __future__ import annotations

import pytest

from tests.support import Site, enroll, insert_user

pytestmark = pytest.mark.oldest_and_newest("triggers: in which order they fire, and as whom")


def copies(site: Site, columns: str) -> list[tuple[object, ...]]:
    return site.execute(f"select {columns} from course.auth_user order by id, course_id")


def test_a_column_changed_by_a_before_trigger_arrives_though_no_statement_names_it(
    site: Site,
) -> None:
    site.register_only("A")
    ada = insert_user(site, "ada")
    enroll(site, ada, "A")
    site.execute("alter table auth_user add column visits integer not null default 0")
    site.execute(
        "create function normalise() returns trigger language plpgsql as"
        " $$ begin new.email := 'n' || new.visits || '@example.org'; return new; end $$"
    )
    site.execute(
        "create trigger normalise before update on auth_user"
        " for each row execute function normalise()"
    )
    site.execute("update auth_user set visits = 7")
    assert copies(site, "email") == [("n7@example.org",)]


def test_a_row_updated_once_more_by_an_after_trigger_arrives_in_its_last_version(
    site: Site,
) -> None:
    """Triggers fire in the order of their names: this one before pysync's."""
    site.register_only("A")
    ada, bob = insert_user(site, "ada"), insert_user(site, "bob")
    enroll(site, ada, "A")
    enroll(site, bob, "A")
    site.execute(
        "create function lower_all() returns trigger language plpgsql as $$ begin"
        " update auth_user set email = lower(email) where email <> lower(email);"
        " return null; end $$"
    )
    site.execute(
        "create trigger a_first after update on auth_user for each row execute function lower_all()"
    )
    site.execute("update auth_user set email = upper(username)")
    assert copies(site, "email") == [("ada",), ("bob",)]


def test_a_profile_updated_once_more_arrives_in_its_last_version(site: Site) -> None:
    site.register_only("A")
    ada = insert_user(site, "ada")
    site.execute("insert into auth_userprofile (user_id, name) values (%s, 'Ada')", ada)
    enroll(site, ada, "A")
    site.execute(
        "create function trim_name() returns trigger language plpgsql as $$ begin"
        " update auth_userprofile set name = trim(name) where name <> trim(name);"
        " return null; end $$"
    )
    site.execute(
        "create trigger a_first after update on auth_userprofile"
        " for each row execute function trim_name()"
    )
    site.execute("update auth_userprofile set name = '  Countess  '")
    assert site.execute("select name from course.auth_userprofile") == [("Countess",)]


def test_an_enrollment_that_a_trigger_puts_back_stays(site: Site) -> None:
    site.register_only("A")
    ada = insert_user(site, "ada")
    enroll(site, ada, "A")
    site.execute(
        "create function put_back() returns trigger language plpgsql as $$ begin"
        " insert into student_courseenrollment (user_id, course_id)"
        " values (old.user_id, old.course_id); return null; end $$"
    )
    site.execute(
        "create trigger a_first after delete on student_courseenrollment"
        " for each row execute function put_back()"
    )
    site.execute("delete from student_courseenrollment")
    assert copies(site, "username, live") == [("ada", True)]
    assert site.one("select count(*) from course.student_courseenrollment") == 1


def test_an_enrollment_that_a_trigger_takes_away_goes_nowhere(site: Site) -> None:
    site.register_only("A")
    ada = insert_user(site, "ada")
    site.execute(
        "create function take_away() returns trigger language plpgsql as $$ begin"
        " delete from student_courseenrollment where id = new.id; return null; end $$"
    )
    site.execute(
        "create trigger a_first after insert on student_courseenrollment"
        " for each row execute function take_away()"
    )
    enroll(site, ada, "A")
    assert copies(site, "username") == []
    assert site.one("select count(*) from course.student_courseenrollment") == 0


def test_a_column_of_the_applications_own_changes_no_copy(site: Site) -> None:
    site.register_only("A")
    ada = insert_user(site, "ada")
    enroll(site, ada, "A")
    site.execute("alter table auth_user add column theme text")
    before = copies(site, "xmin::text")
    site.execute("update auth_user set theme = 'dark'")
    site.execute("update auth_user set email = email, id = id")
    assert copies(site, "xmin::text") == before
