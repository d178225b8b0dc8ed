"""What a portal's applications do with their own tables: it works, or is refused and named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from pysync.db.connections import connect
from pysync.diagnosis.drift import portal_findings
from pysync.findings import Finding
from pysync.models.replicated import REPLICATED
from tests.integration.fan_out import TABLES, App, differences

pytestmark = pytest.mark.oldest_and_newest("what PostgreSQL lets others do with tables of theirs")

# No equality, one that can't be trusted, values that no jsonb holds, none that is stored.
TYPES = {
    "prefs": "json default '{\"\\u0000\": 1e999999}'",
    "place": "point",
    "page": "xml",
    "many": "json[]",
    "pair": "public.pair",
    "any_json": "public.some_json",
    "length": "integer generated always as (id + 1) stored",
}

# Whatever our functions call their parameters and variables.
VARIABLES = r"""
select distinct quote_ident(name)
  from pg_proc
 cross join lateral (
           select unnest(proargnames)
            union all
           select declared[1]
             from regexp_matches(prosrc, '\n    (\w+) (?:constant )?(?:bigint|integer|text|boolean)',
                                 'g') as declared
       ) as of (name)
 where pronamespace in ('course'::regnamespace, 'pysync'::regnamespace, 'student'::regnamespace)
   and name <> ''
"""


def change_everything(app: App, name: str, course_ids: tuple[str, ...] = ("A", "B")) -> int:
    """Do with a new user whatever applications do; returns its id."""
    user = app.user(name)
    app.profile(user)
    app.enroll(user, *course_ids)
    app.execute(f"update auth_user set email = '{name}@example.com' where id = %s", user)
    app.execute("update auth_user set last_login = now(), username = username || '2'")
    app.execute("update auth_userprofile set name = 'N' || user_id, goals = 'all'")
    app.execute("update student_courseenrollment set created = now()")
    app.execute("update student_courseenrollment set id = id + 1000 where user_id = %s", user)
    app.execute("update auth_userprofile set id = id + 1000 where user_id = %s", user)
    app.unenroll(user, "B")
    app.enroll(user, "B")
    return user


def findings(app: App) -> list[Finding]:
    with connect(app.site.portal) as portal:
        return portal_findings(portal)


@contextmanager
def refused(sqlstate: str) -> Iterator[list[Any]]:
    told: list[Any] = []
    with pytest.raises(psycopg.Error) as error:
        yield told
    assert error.value.sqlstate == sqlstate, str(error.value)
    told.append(error.value.diag)


def test_columns_of_any_type_are_none_of_the_triggers_business(own_app: App) -> None:
    app, site = own_app, own_app.site
    site.register_only("A", "B")
    change_everything(app, "before")
    site.execute("create type public.pair as (a json, b point)")
    site.execute("create domain public.some_json as json check (value is not null or true)")
    for table in TABLES:
        # So that columns have other numbers than in the fan-out.
        site.execute(f"alter table public.{table} add dropped int; alter table public.{table}"
                     f" drop dropped")  # fmt: skip
        for name, type_ in TYPES.items():
            site.execute(f"alter table public.{table} add {name} {type_}")
        for (name,) in site.execute(VARIABLES):
            site.execute(f"alter table public.{table} add if not exists {name} text default '0'")
    user = change_everything(app, "after")
    assert differences(site) == []
    assert findings(app) == []

    # What courses don't have is written, and nothing else.
    written = "select sum(n_tup_upd) from pg_stat_xact_user_tables where schemaname = 'course'"
    with app.connect().transaction() as transaction:
        for table in TABLES:
            app_column = (
                f"update {table} set prefs = '[1]', place = '(1,2)', pair = ('[1]', '(1,2)')"
            )
            transaction.connection.execute(app_column)
        assert transaction.connection.execute(written).fetchall() == [(0,)]
    app.execute("delete from auth_user where id = %s", user)
    assert differences(site) == []


def altered(type_: str) -> list[str]:
    """Return types that a column of this type is given one after the other."""
    if type_ == "bigint":
        return ["integer", "bigint"]
    if type_.startswith("character varying"):
        return ["character varying(100)", "text", 'character varying(99) collate "C"', type_]
    return [{"timestamp with time zone": "timestamp(3) with time zone"}.get(type_, type_), type_]


@pytest.mark.newest("types change alike on both ends; columns of any type are tested there")
@pytest.mark.timeout(240)
def test_any_replicated_column_may_change_its_type(own_app: App) -> None:
    app, site = own_app, own_app.site
    site.register_only("A", "B")
    # Sessions that were there before go on, but for what the driver prepared in them.
    app.connection.prepare_threshold = None
    change_everything(app, "before")
    for table in REPLICATED:
        for column in table.described:
            if column.name == "course_id" and table.name != "student_courseenrollment":
                continue
            type_ = column.type
            for number, changed in enumerate(altered(type_)):
                alter = f"alter table public.{table.name} alter {column.name} type {changed}"
                site.execute(alter)
                change_everything(app, f"{table.stem}_{column.name}_{number}")
    assert differences(site) == []
    assert findings(app) == []


def test_a_column_wider_than_courses_is_named_before_a_value_is_refused(own_app: App) -> None:
    app, site = own_app, own_app.site
    site.register_only("A")
    user = app.user("ada")
    app.enroll(user, "A")
    site.execute("alter table public.auth_user alter first_name type varchar(300)")
    (found,) = findings(app)
    assert found.object == "column 'first_name' of public.auth_user"
    assert "character varying(150) in courses" in found.cause
    with refused("22001"):
        app.execute("update auth_user set first_name = repeat('x', 200)")
    (statements,) = found.commands
    site.execute(statements)
    assert findings(app) == []
    site.execute("create table public.staff_user () inherits (public.auth_user)")
    (found,) = findings(app)
    assert (found.object, "inherits" in found.cause) == ("table public.staff_user", True)
    site.execute("drop table public.staff_user")
    site.execute("alter table public.auth_userprofile drop goals")
    assert [each.object for each in findings(app)] == ["column 'goals' of public.auth_userprofile"]


@pytest.mark.parametrize("force", ["no force", "force"])
def test_row_security_hides_nothing_from_the_triggers(own_app: App, force: str) -> None:
    app, site = own_app, own_app.site
    site.register_only("A", "B")
    change_everything(app, "before")
    for table in (*TABLES, "django_comment_client_role", "django_comment_client_role_users"):
        site.execute(f"alter table public.{table} enable row level security")
        site.execute(f"alter table public.{table} {force} row level security")
        site.execute(f"create policy own on public.{table} to {app.role} using (true)")
    user = change_everything(app, "after")
    assert differences(site) == []
    assert findings(app) == []
    with refused("23503"):
        app.enroll(4711, "A")
    # As pg_dump sets it, and whoever wants to be sure to see all.
    for role in (app.role, "postgres"):
        with site.connect(user=role) as session:
            session.execute("set row_security = off")
            # The application's own policies may refuse it; ours don't.
            with suppress(psycopg.errors.InsufficientPrivilege):
                session.execute("update public.auth_user set first_name = %s", (role,))
            seen = session.execute("show row_security").fetchall()
            assert seen == [("off",)]
    site.execute("alter role current_user set row_security = off")
    try:
        assert site.execute("select * from pysync.fan_out_differences('A')") == []
        site.execute("update public.auth_user set last_name = 'King' where id = %s", user)
        site.execute("delete from public.student_courseenrollment where user_id = %s", user)
        site.one("select pysync.mark('A')") if site.one(
            "select count(*) from course.mark"
        ) else None
    finally:
        site.execute("alter role current_user reset row_security")
    assert differences(site) == []


def test_what_row_security_hides_is_refused_and_named(own_app: App) -> None:
    app, site = own_app, own_app.site
    site.register_only("A")
    users = [change_everything(app, name, ("A",)) for name in ("ada", "bob")]
    late = app.user("late")
    hidden = [late, users[0]]
    conditions = {
        "auth_user": f"id <> all ('{{{late},{users[0]}}}')",
        "auth_userprofile": f"user_id <> {users[0]}",
        "student_courseenrollment": f"user_id <> {users[0]}",
    }
    writes = {
        "auth_user": "update auth_user set email = 'new@example.org' where id = %s",
        "auth_userprofile": "update auth_userprofile set name = 'New' where user_id = %s",
        "student_courseenrollment": "update student_courseenrollment set created = null"
        " where user_id = %s",
    }
    for table, condition in conditions.items():
        site.execute(f"alter table public.{table} enable row level security")
        site.execute(f"create policy own on public.{table} to {app.role} using (true)")
        restrictive = f"create policy tenant on public.{table} as restrictive using"
        site.execute(f"{restrictive} (current_user = '{app.role}' or {condition})")
        (found,) = findings(app)
        assert (found.object, table in found.cause) == ("policy 'tenant'", True)
        # A user's own update brings its row along; all else is looked up.
        with refused("42501") as told:
            if table == "auth_user":
                app.enroll(hidden[0], "A")
            else:
                app.execute(writes[table], users[0])
        assert table in str(told[0].message_primary)
        assert differences(site) == []
        # The statement that is named heals it, and nothing got lost.
        (statements,) = found.commands
        site.execute(statements)
        assert findings(app) == []
        app.execute(writes[table], users[0])
        assert differences(site) == []
    # Without the policy that pysync made nothing is seen.
    site.execute("drop policy pysync_fan_out on public.auth_user")
    with refused("42501"):
        app.enroll(hidden[0], "A")
    assert {each.object for each in findings(app)} == {
        "row security",
        "policy 'pysync_fan_out' on public.auth_user",
    }
