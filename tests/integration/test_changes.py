"""Every change of a source row reaches the copies it concerns, and nothing else is written."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.fan_out import TABLES, App, copy_of, differences, names
from tests.support import Rows, Site, assert_live_rows

pytestmark = pytest.mark.oldest_and_newest(
    "each kind of change on its way into a course: if both ends agree, those between do"
)

ID_CHANGE_REFUSED = "PY004"


@pytest.fixture
def pair(app: App) -> tuple[int, int]:
    """Two users, both enrolled in A, the second in B too; only the first has a profile."""
    app.site.register_only("A", "B")
    ada, bob = app.user("ada"), app.user("bob")
    app.profile(ada, name="ada's")
    app.enroll(ada, "A")
    app.enroll(bob, "A", "B")
    return ada, bob


def trigger(
    site: Site, timing: str, table: str, body: str, when: str = "true", *, owner: str | None = None
) -> None:
    """Put a trigger of an application's own on one of its tables."""
    site.execute(
        "create function public.app_trigger() returns trigger language plpgsql as"
        f" $$ begin {body} end $$;"
        f" create trigger app_trigger {timing} on public.{table} for each row when ({when})"
        " execute function public.app_trigger()"
    )
    if owner:
        site.execute(f"alter function public.app_trigger() owner to {owner}")


def versions(site: Site) -> Rows:
    """Return which version of each row the fan-out tables hold."""
    return site.execute(
        " union all ".join(
            f"select '{table}', id, course_id, ctid::text, xmin::text from course.{table}"
            for table in TABLES
        )
        + " order by 1, 2, 3"
    )


def test_a_profile_given_to_another_user_moves_in_every_course(
    app: App, pair: tuple[int, int]
) -> None:
    ada, bob = pair
    app.execute("update auth_userprofile set user_id = %s, goals = 'moved'", bob)
    held = "select course_id, user_id, goals from course.auth_userprofile order by 1"
    assert app.site.execute(held) == [("A", bob, "moved"), ("B", bob, "moved")]
    assert differences(app.site) == []
    app.execute("update auth_userprofile set user_id = %s", ada)
    assert app.site.execute(held) == [("A", ada, "moved")]
    assert differences(app.site) == []


def test_a_profile_moves_past_a_frozen_copy_of_it(app: App, pair: tuple[int, int]) -> None:
    ada, bob = pair
    app.unenroll(ada, "A")
    app.execute("update auth_userprofile set user_id = %s", bob)
    assert differences(app.site) == []
    app.enroll(ada, "A")
    assert app.site.execute("select distinct user_id from course.auth_userprofile") == [(bob,)]
    assert differences(app.site) == []


def test_two_profiles_swap_their_users_through_a_third(app: App, pair: tuple[int, int]) -> None:
    ada, bob = pair
    third = app.user("third")
    app.profile(bob, name="bob's")
    with app.connection.transaction():
        for before, after in ((ada, third), (bob, ada), (third, bob)):
            app.execute(
                "update auth_userprofile set user_id = %s where user_id = %s", after, before
            )
    assert differences(app.site) == []


def test_a_profile_under_another_id_is_carried(app: App, pair: tuple[int, int]) -> None:
    app.execute("update auth_userprofile set id = id + 1000")
    assert differences(app.site) == []


def test_two_profiles_swap_their_ids_through_a_third(app: App, pair: tuple[int, int]) -> None:
    app.profile(pair[1], id=1001)
    app.execute("update auth_userprofile set id = 1000 where id <> 1001")
    with app.connection.transaction():
        for before, after in ((1000, 1), (1001, 1000), (1, 1001)):
            app.execute("update auth_userprofile set id = %s where id = %s", after, before)
    assert differences(app.site) == []


@pytest.mark.parametrize(
    "change",
    [
        "course_id = 'B' where user_id = 1",
        "course_id = 'not registered' where user_id = 1",
        "course_id = 'default'",
        "course_id = 'B' where course_id = 'not registered'",
        "user_id = 3 where user_id = 1",
        "user_id = 3, course_id = 'B', created = null where user_id = 1 and course_id = 'A'",
        "id = id + 1000",
        "id = -id, created = null",
        "created = created - interval '1 year'",
        "created = null",
        "user_id = 3 - user_id where user_id in (1, 2)",
    ],
)
def test_an_enrollment_that_moves_leaves_one_fan_out_and_enters_another(
    app: App, change: str
) -> None:
    site = app.site
    site.register_only("A", "B")
    for number in range(1, 5):
        app.profile(app.user(f"user-{number}", id=number))
    app.enroll(1, "A")
    app.enroll(2, "B")
    app.enroll(4, "not registered")
    before = {course: names(site, course).keys() for course in "AB"}
    app.execute(f"update student_courseenrollment set {change}")
    assert differences(site) == []
    assert all(before[course] <= names(site, course).keys() for course in "AB")


def test_an_enrollment_moved_to_another_course_replicates(own_app: App) -> None:
    app, site = own_app, own_app.site
    for course in "AB":
        site.add(course)
    app.profile(app.user("ada"))
    app.enroll(app.one("select id from auth_user"), "A")
    app.execute("update student_courseenrollment set course_id = 'B'")
    app.execute("update student_courseenrollment set id = id + 1000")
    site.wait()
    assert site.course("A").execute("select * from student_courseenrollment").fetchall() == []
    assert_live_rows(site, "B")


def test_changes_by_an_applications_before_trigger_are_carried(
    app: App, pair: tuple[int, int]
) -> None:
    ada, _ = pair
    trigger(
        app.site,
        "before update of first_name",
        "auth_user",
        "new.email = lower(new.first_name) || '@example.org'; return new;",
    )
    app.execute("update auth_user set first_name = 'AUGUSTA' where id = %s", ada)
    assert copy_of(app.site, ada, "A", "email") == ("augusta@example.org",)
    assert differences(app.site) == []


@pytest.mark.parametrize("name", ["a_first", "zz_last"])
@pytest.mark.parametrize(
    ("table", "column", "statement"),
    [
        ("auth_user", "first_name", "update auth_user set last_name = 'outer'"),
        ("auth_user", "username", "update auth_user set username = username || '-outer'"),
        ("auth_userprofile", "goals", "update auth_userprofile set name = 'outer'"),
        ("auth_userprofile", "user_id", "update auth_userprofile set name = 'outer'"),
        (
            "student_courseenrollment",
            "created",
            "update student_courseenrollment set id = id + 1000",
        ),
    ],
)
def test_changes_by_an_applications_after_trigger_are_not_overwritten_by_older_ones(
    app: App, pair: tuple[int, int], name: str, table: str, column: str, statement: str
) -> None:
    value = {
        "user_id": str(pair[1]),
        "created": "null",
        "username": "'nested-' || new.id",
    }.get(column, "'nested'")
    trigger(
        app.site,
        "after update",
        table,
        f"update public.{table} set {column} = {value} where id = new.id; return null;",
        "pg_trigger_depth() = 0",
    )
    app.site.execute(f"alter trigger app_trigger on {table} rename to {name}")
    app.execute(statement)
    assert differences(app.site) == []


@pytest.mark.parametrize(
    ("table", "timing", "body", "statement"),
    [
        (
            "student_courseenrollment",
            "after delete",
            "insert into public.student_courseenrollment (user_id, course_id)"
            " values (old.user_id, old.course_id)",
            "delete from student_courseenrollment",
        ),
        (
            "student_courseenrollment",
            "after update",
            "update public.student_courseenrollment set course_id = old.course_id"
            " where id = new.id and pg_trigger_depth() = 1",
            "update student_courseenrollment set course_id = 'not registered' where user_id = 1",
        ),
        (
            "student_courseenrollment",
            "after insert",
            "delete from public.student_courseenrollment where id = new.id",
            "insert into student_courseenrollment (user_id, course_id) values (1, 'B')",
        ),
        (
            "auth_userprofile",
            "after delete",
            "insert into public.auth_userprofile overriding system value select old.*",
            "delete from auth_userprofile",
        ),
        (
            "auth_userprofile",
            "after insert",
            "delete from public.auth_userprofile where id = new.id",
            "insert into auth_userprofile (user_id) values (2)",
        ),
    ],
    ids=["put_back", "move_back", "remove_again", "profile_put_back", "profile_remove_again"],
)
def test_rows_that_an_applications_trigger_puts_back_or_removes_again(
    app: App, pair: tuple[int, int], table: str, timing: str, body: str, statement: str
) -> None:
    assert pair == (1, 2)
    trigger(app.site, timing, table, f"{body}; return null;")
    app.execute(statement)
    assert differences(app.site) == []


def test_an_application_may_delete_what_points_at_a_user_in_a_before_trigger(
    app: App, pair: tuple[int, int]
) -> None:
    trigger(
        app.site,
        "before delete",
        "auth_user",
        "delete from public.student_courseenrollment where user_id = old.id; return old;",
    )
    app.execute("delete from auth_user where id = %s", pair[0])
    assert copy_of(app.site, pair[0], "A", "username, live") == (f"deleted-{pair[0]}", False)
    assert differences(app.site) == []


def test_enrolling_is_no_update_of_the_user_to_the_application(app: App) -> None:
    site = app.site
    site.register_only("A")
    site.execute(f"create table public.app_log (id bigint); grant all on app_log to {app.role}")
    trigger(
        site,
        "after update",
        "auth_user",
        "insert into public.app_log values (new.id); return null;",
    )
    app.enroll(app.user("ada"), "A")
    app.profile(1)
    assert app.execute("select * from app_log") == []
    assert differences(site) == []


def test_an_application_may_suppress_updates_that_change_nothing(app: App) -> None:
    site = app.site
    site.register_only("A")
    site.execute(
        "create trigger app_suppress before update on auth_user for each row"
        " execute function suppress_redundant_updates_trigger()"
    )
    app.enroll(app.user("ada"), "A")
    assert differences(site) == []


def test_an_application_may_make_profile_and_enrollment_with_the_user(app: App) -> None:
    app.site.register_only("A")
    trigger(
        app.site,
        "after insert",
        "auth_user",
        "insert into public.auth_userprofile (user_id) values (new.id);"
        " insert into public.student_courseenrollment (user_id, course_id) values (new.id, 'A');"
        " return null;",
    )
    app.user("ada")
    assert names(app.site, "A") == {1: "ada"}
    assert differences(app.site) == []


def test_an_application_may_enroll_in_a_before_trigger(app: App) -> None:
    app.site.register_only("A")
    ada = app.user("ada")
    trigger(
        app.site,
        "before update",
        "auth_user",
        "insert into public.student_courseenrollment (user_id, course_id) values (new.id, 'A');"
        " return new;",
        "pg_trigger_depth() = 0",
    )
    app.execute("update auth_user set email = 'new@example.org'")
    assert copy_of(app.site, ada, "A", "email") == ("new@example.org",)
    assert differences(app.site) == []


@pytest.mark.parametrize(
    "statement",
    [
        "update auth_user set karma = 5",
        "update auth_user set email = email, karma = coalesce(karma, 0)",
        "update auth_user set email = email, username = username",
        "update auth_userprofile set karma = 5, name = name",
        "update student_courseenrollment set karma = 5, created = created",
        "update student_courseenrollment set course_id = course_id",
        "update auth_user set email = '' where false",
        "delete from student_courseenrollment where false",
        "insert into student_courseenrollment (user_id, course_id) values (1, 'A')"
        " on conflict do nothing",
    ],
)
def test_updates_that_change_no_replicated_column_write_nothing(
    app: App, pair: tuple[int, int], statement: str
) -> None:
    for table in TABLES:
        app.site.execute(f"alter table public.{table} add column karma integer")
    before = versions(app.site)
    app.execute(statement)
    assert versions(app.site) == before
    assert differences(app.site) == []


def test_a_users_no_op_update_calls_one_function_that_compares(
    app: App, pair: tuple[int, int]
) -> None:
    with app.site.connect() as connection, connection.transaction():
        connection.execute("set local track_functions = 'all'")
        connection.execute("update auth_user set email = email, username = username")
        calls = (
            "select funcname, calls from pg_stat_xact_user_functions where schemaname = 'course'"
        )
        assert connection.execute(calls).fetchall() == [("user_updated", 2)]


def test_a_users_update_writes_its_live_copies_only(app: App, pair: tuple[int, int]) -> None:
    _, bob = pair
    app.unenroll(bob, "B")
    before = versions(app.site)
    app.execute("update auth_user set email = 'new@example.org' where id = %s", bob)
    after = versions(app.site)
    changed = {new[:3] for old, new in zip(before, after, strict=True) if old != new}
    assert changed == {("auth_user", bob, "A")}


def test_a_user_id_can_not_change_while_a_course_holds_a_copy(
    app: App, pair: tuple[int, int]
) -> None:
    ada, _ = pair
    app.execute("delete from auth_userprofile")
    app.unenroll(ada, "A")
    with pytest.raises(psycopg.Error, match=f"from {ada} to 4711") as refusal:
        app.execute("update auth_user set id = 4711 where id = %s", ada)
    assert refusal.value.sqlstate == ID_CHANGE_REFUSED
    unknown = app.user("unknown")
    app.execute("update auth_user set id = 4711 where id = %s", unknown)
    app.enroll(4711, "A")
    assert differences(app.site) == []


def test_a_new_user_under_a_deleted_ones_id_stays_apart_until_enrolled(
    app: App, pair: tuple[int, int]
) -> None:
    ada, _ = pair
    app.execute("delete from auth_user where id = %s", ada)
    app.user("somebody", id=ada)
    app.profile(ada, name="somebody's")
    app.execute("update auth_user set email = 'somebody@example.org' where id = %s", ada)
    assert copy_of(app.site, ada, "A", "username, email, live") == (f"deleted-{ada}", "", False)
    assert app.site.execute("select * from course.auth_userprofile") == []
    app.enroll(ada, "A")
    assert differences(app.site) == []


def test_an_application_may_change_the_type_of_a_column(app: App) -> None:
    """A site's own migrations go on: no trigger of ours names columns in its condition."""
    site = app.site
    site.register_only("A")
    ada = app.user("ada")
    app.enroll(ada, "A")
    with site.connect() as admin:
        admin.execute("begin")
        for table, column in (
            ("auth_user", "username"),
            ("auth_user", "email"),
            ("auth_userprofile", "name"),
        ):
            admin.execute(f"alter table public.{table} alter column {column} type text")
        admin.execute("update auth_user set email = 'new@example.org' where id = %s", (ada,))
        admin.execute("rollback")
