"""In a course database only the portal changes replicated rows and columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.integration.fan_out import App, application, role
from tests.support import Cluster, Site, assert_live_rows

pytestmark = pytest.mark.every_major(
    "15 applies as the subscription's owner, later versions as the table's"
)

WRITE_REFUSED = "PY002"

COLUMNS = {
    "auth_user": {
        "id": "4711",
        "course_id": "'B'",
        "password": "'!'",
        "is_superuser": "true",
        "username": "'mallory'",
        "first_name": "'Mal'",
        "last_name": "'Lory'",
        "email": "'mallory@example.org'",
        "is_staff": "true",
        "is_active": "false",
        "date_joined": "now()",
    },
    "auth_userprofile": {
        "id": "4711",
        "course_id": "'B'",
        "user_id": "4711",
        "name": "'Mallory'",
        "meta": "'{}'",
        "courseware": "'other.xml'",
        "language": "'en'",
        "location": "'here'",
        "year_of_birth": "1815",
        "gender": "'f'",
        "level_of_education": "'p'",
        "mailing_address": "'there'",
        "goals": "'all'",
    },
    "student_courseenrollment": {
        "id": "4711",
        "course_id": "'B'",
        "user_id": "4711",
        "created": "null",
    },
    "mark": {"id": "4711", "course_id": "'B'", "number": "0", "marked_at": "now()"},
}
INSERTS = {
    "auth_user": "(id, course_id, username, password) values (4711, {}, 'mallory', '')",
    "auth_userprofile": "(id, course_id, user_id) values (4711, {}, 4711)",
    "student_courseenrollment": "(id, course_id, user_id) values (4711, {}, 4711)",
    "mark": "(id, course_id, number, marked_at) values (4711, {}, 4711, now())",
}


@pytest.fixture(scope="module")
def app(portal_server: Cluster, course_server: Cluster, portal_template: str) -> Iterator[App]:
    """A portal with course A, which holds one user, for all tests here."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    site.add("A")
    with application(site) as app:
        ada = app.user("ada")
        app.profile(ada)
        app.enroll(ada, "A")
        yield app
    site.close()


@pytest.fixture(scope="module")
def local(app: App) -> Iterator[psycopg.Connection[Any]]:
    """A connection of a course's application, which may do everything with the tables."""
    conninfo = app.site.databases["A"]
    grants = ("usage on schema course", "all on all tables in schema course")
    with role(app.site, *grants, conninfo=conninfo) as name:
        app.site.wait()
        yield app.site.connect(conninfo, user=name)


def refusal(connection: psycopg.Connection[Any], statement: str) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.Error) as error:
        connection.execute(statement)
    assert error.value.sqlstate == WRITE_REFUSED
    assert "portal" in str(error.value.diag.message_hint)
    return error.value.diag


@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table, values in COLUMNS.items() for column in values]
)
def test_an_update_of_a_replicated_column_is_refused_and_names_it(
    local: psycopg.Connection[Any], table: str, column: str
) -> None:
    update = f"update {table} set {column} = {COLUMNS[table][column]}"
    if column == "course_id":
        with pytest.raises(psycopg.errors.CheckViolation) as error:
            local.execute(update)
        assert "domain this_course_id" in str(error.value)
        return
    diagnostic = refusal(local, update)
    assert diagnostic.column_name == column
    assert diagnostic.table_name == table
    assert f"column {column} of course.{table}" in str(diagnostic.message_primary)


def test_all_refused_columns_are_named(local: psycopg.Connection[Any]) -> None:
    diagnostic = refusal(
        local,
        "update auth_user set email = '', username = 'x', last_login = now(), is_staff = false",
    )
    assert diagnostic.column_name == "email, username"


@pytest.mark.parametrize("table", COLUMNS)
@pytest.mark.parametrize(
    "statement", ["insert into {} {}", "delete from {}", "truncate {} cascade"]
)
def test_rows_can_not_be_inserted_deleted_or_truncated(
    local: psycopg.Connection[Any], table: str, statement: str
) -> None:
    diagnostic = refusal(local, statement.format(table, INSERTS[table].format("'A'")))
    assert f"course.{table} refused" in str(diagnostic.message_primary)


def test_superusers_are_refused_too(app: App, local: psycopg.Connection[Any]) -> None:
    refusal(app.site.course("A"), "update auth_user set email = ''")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into auth_user (id, course_id, username, password) values (1, 'A', 'x', '')"
        " on conflict (id) do update set email = ''",
        "merge into auth_user using (values (1)) as v on true when matched then delete",
    ],
)
def test_no_statement_goes_around_the_guard(local: psycopg.Connection[Any], statement: str) -> None:
    refusal(local, statement)


def test_an_update_that_changes_nothing_is_free(local: psycopg.Connection[Any]) -> None:
    for table, columns in COLUMNS.items():
        local.execute(f"update {table} set " + ", ".join(f"{name} = {name}" for name in columns))


def test_last_login_is_free_and_the_portals_next_value_wins(
    app: App, local: psycopg.Connection[Any]
) -> None:
    seen = "select last_login::text from auth_user"
    local.execute("set timezone = 'UTC'")
    local.execute("update auth_user set last_login = '2012-09-01 12:00Z'")
    assert local.execute(seen).fetchall() == [("2012-09-01 12:00:00+00",)]
    app.execute("update auth_user set last_login = '2013-01-01 12:00Z'")
    app.site.wait()
    assert local.execute(seen).fetchall() == [("2013-01-01 12:00:00+00",)]


def test_a_courses_own_column_is_free_and_survives_the_portals_updates(
    app: App, local: psycopg.Connection[Any]
) -> None:
    course = app.site.course("A")
    course.execute("alter table course.auth_user add column reputation integer not null default 1")
    local.execute("update auth_user set reputation = 42")
    refusal(local, "update auth_user set reputation = 43, email = 'mallory@example.org'")
    app.execute("update auth_user set email = 'new@example.org'")
    app.site.wait()
    assert local.execute("select email, reputation from auth_user").fetchall() == [
        ("new@example.org", 42)
    ]
    app.enroll(app.user("bob"), "A")
    app.site.wait()
    assert local.execute("select username, reputation from auth_user order by id").fetchall() == [
        ("ada", 42),
        ("bob", 1),
    ]


@pytest.mark.parametrize("table", COLUMNS)
def test_a_row_of_another_course_violates_a_check_for_the_apply_worker_too(
    app: App, table: str
) -> None:
    insert = f"insert into course.{table} {INSERTS[table]}"
    with app.site.course("A") as apply_worker, apply_worker.transaction(force_rollback=True):
        apply_worker.execute("set session_replication_role = replica")
        with pytest.raises(psycopg.errors.CheckViolation) as error, apply_worker.transaction():
            apply_worker.execute(insert.format("'B'"))
        assert error.value.diag.constraint_name == "pysync_this_course"
        # The same row of this course is what an apply worker inserts.
        apply_worker.execute(f"delete from course.{table}")
        apply_worker.execute(insert.format("'A'"))


def test_refused_writes_never_stop_replication(app: App, local: psycopg.Connection[Any]) -> None:
    site = app.site
    for statement in ("delete from auth_user", "update auth_userprofile set name = 'local'"):
        refusal(local, statement)
    app.execute("update auth_user set first_name = 'Augusta' where username = 'ada'")
    app.execute("update auth_userprofile set name = 'Augusta', goals = null")
    carol = app.user("carol")
    app.enroll(carol, "A")
    app.execute("delete from auth_user where id = %s", carol)
    site.wait()
    assert_live_rows(site, "A")
    errors = "select apply_error_count from pg_stat_subscription_stats"
    assert (0,) in site.course("A").execute(errors).fetchall()


def test_a_local_trigger_can_not_change_a_replicated_column_either(
    app: App, local: psycopg.Connection[Any]
) -> None:
    with app.site.course("A") as course, course.transaction(force_rollback=True):
        course.execute(
            "create function public.local_trigger() returns trigger language plpgsql as"
            " $$ begin new.email = 'local@example.org'; return new; end $$;"
            " create trigger zz_local before update on course.auth_user"
            " for each row execute function public.local_trigger()"
        )
        with course.transaction(force_rollback=True):
            refusal(course, "update auth_user set last_login = now()")
