"""Rights on the portal's three tables are all an application needs, and all that it gets."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from pysync.db.connections import connect
from pysync.replication import fan_out, publications
from pysync.types import CourseId
from tests.integration.fan_out import TABLES, App, differences, names, role
from tests.support import Rows, Site

pytestmark = pytest.mark.every_major(
    "16 changed what who creates roles may do, 17 added a privilege"
)

ROLES = ("pysync_fan_out", "pysync_owner")

GRANTED_TO_PUBLIC = """
select 'schema', nspname::text, privilege_type
  from pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
 where nspname in ('pysync', 'course') and grantee = 0
union all
select 'relation', pg_class.oid::regclass::text, privilege_type
  from pg_class,
       aclexplode(coalesce(relacl,
           acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner)))
 where relnamespace::regnamespace::text in ('pysync', 'course') and grantee = 0
union all
select 'column', format('%s.%I', attrelid::regclass, attname), privilege_type
  from pg_attribute join pg_class on pg_class.oid = attrelid, aclexplode(attacl)
 where relnamespace::regnamespace::text in ('pysync', 'course') and grantee = 0
union all
select 'routine', pg_proc.oid::regprocedure::text, privilege_type
  from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
 where pronamespace::regnamespace::text in ('pysync', 'course') and grantee = 0
"""


@pytest.fixture
def owning(own_app: App) -> App:
    """An application that owns the portal's tables, as Django's does, and may create functions."""
    for table in TABLES:
        own_app.site.execute(f"alter table public.{table} owner to {own_app.role}")
    own_app.site.execute(f"grant create on schema public to {own_app.role}")
    return own_app


def test_rights_on_three_tables_are_enough_for_everything(app: App) -> None:
    site = app.site
    site.register_only("A", "B")
    ada, bob, old = app.user("ada"), app.user("bob"), app.user("old")
    app.profile(ada, name="Ada")
    app.enroll(old, "A")
    app.unenroll(old, "A")
    app.execute("update auth_user set username = 'older' where id = %s", old)
    app.enroll(ada, "A", "B")
    app.enroll(bob, "A")
    app.execute("update auth_user set username = 'old' where id = %s", bob)
    app.execute("update auth_userprofile set user_id = %s", bob)
    app.execute("update student_courseenrollment set course_id = 'B' where user_id = %s", bob)
    app.enroll(old, "A")
    app.execute("set default_transaction_isolation = serializable")
    app.unenroll(ada, "A")
    app.enroll(ada, "A")
    app.execute("delete from auth_userprofile")
    app.execute("delete from auth_user where id = %s", bob)
    app.execute("reset default_transaction_isolation")
    assert differences(site) == []
    assert names(site, "A") == {ada: "ada", bob: f"deleted-{bob}", old: "older"}
    app.execute("truncate auth_userprofile")
    app.execute("truncate student_courseenrollment")
    assert differences(site) == []


def test_rights_on_single_columns_are_enough(app: App) -> None:
    site = app.site
    site.register_only("A")
    with role(
        site,
        "insert (username, password), update (email), select (id) on auth_user",
        "insert (user_id, course_id) on student_courseenrollment",
    ) as name:
        narrow = site.connect(user=name)
        narrow.execute("insert into auth_user (username, password) values ('ada', '')")
        narrow.execute(
            "insert into student_courseenrollment (user_id, course_id)"
            " select id, 'A' from auth_user"
        )
        narrow.execute("update auth_user set email = 'ada@example.org'")
        narrow.close()
    assert differences(site) == []


def test_an_application_can_not_reach_the_fan_out_or_the_registry(app: App) -> None:
    app.site.register_only("A")
    for statement in (
        *(f"select * from course.{table}" for table in (*TABLES, "mark")),
        *(f"delete from course.{table}" for table in (*TABLES, "mark")),
        "select * from pysync.course",
        "select * from pysync.registry_change",
        "select pysync.mark('A')",
        "select pysync.backfill('A', 0, 10)",
        "select pysync.readable_courses('postgres')",
        "select course.claim_members('{1}')",
        "select course.copy_members('{1}', '{1}', '{A}')",
        *(f"set role {name}" for name in ROLES),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(statement)


def test_nothing_of_ours_is_open_to_public(site: Site) -> None:
    site.add("A")
    assert site.execute(GRANTED_TO_PUBLIC) == []
    assert site.course("A").execute(GRANTED_TO_PUBLIC).fetchall() == []


def test_the_roles_are_nobody_special(app: App) -> None:
    attributes = (
        "rolsuper or rolcanlogin or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls"
    )
    query = f"select rolname::text, {attributes} from pg_roles where rolname = any(%s) order by 1"
    assert app.site.execute(query, list(ROLES)) == [(name, False) for name in ROLES]


def test_an_applications_own_objects_are_never_taken_for_ours(owning: App) -> None:
    """What a search path or a temporary schema puts in front isn't looked at."""
    site = owning.site
    site.register_only("A")
    trap = "raise exception 'taken in'"
    site.execute(f"grant create on database {site.connect().info.dbname} to {owning.role}")
    owning.execute("create schema trap")
    for signature, result in (
        ("array_agg(bigint)", "bigint[]"),
        ("left(text, integer)", "text"),
        ("length(text)", "integer"),
        ("cardinality(bigint[])", "integer"),
        ("format(text, text)", "text"),
        ("current_setting(text)", "text"),
    ):
        owning.execute(
            f"create function trap.{signature} returns {result} language plpgsql"
            f" as $$ begin {trap}; end $$"
        )
    owning.execute(
        "create function trap.same(text, text) returns boolean language plpgsql"
        f" as $$ begin {trap}; end $$"
    )
    owning.execute("create operator trap.= (leftarg = text, rightarg = text, function = trap.same)")
    for table in TABLES:
        owning.execute(
            f"create temporary table {table} (id bigint, user_id bigint, course_id text)"
        )
    owning.execute("set search_path = trap, pg_temp, pg_catalog, public")
    for statement in (
        "insert into public.auth_user (username, password) values ('ada', ''), ('bob', '')",
        "insert into public.student_courseenrollment (user_id, course_id)"
        " select id, 'A' from public.auth_user",
        "insert into public.auth_userprofile (user_id) select id from public.auth_user",
        "delete from public.student_courseenrollment where user_id = 1",
        "update public.auth_user set username = 'countess' where id = 1",
        "update public.auth_user set username = 'ada' where id = 2",
        "delete from public.auth_user where id = 2",
    ):
        owning.execute(statement)
    assert differences(site) == []
    assert names(site, "A") == {1: "ada~1", 2: "deleted-2"}


def put_types_in_front(session: psycopg.Connection[Any], role: str) -> None:
    """Name types of one's own, in the temporary schema, like PostgreSQL's."""
    session.execute(
        "create function pg_temp.met(anyelement) returns boolean language plpgsql as $$ begin"
        f" if current_user <> '{role}' then raise exception 'met as %', current_user; end if;"
        " return true; end $$"
    )
    for name in ("text", "timestamptz", "name", "regclass", "jsonb"):
        session.execute(
            f"create domain pg_temp.{name} as pg_catalog.{name} check (pg_temp.met(value))"
        )


def test_an_applications_own_types_are_never_taken_for_ours(app: App) -> None:
    """Without being named in the search path, the temporary schema comes first for types."""
    site = app.site
    site.register_only("A")
    site.execute("insert into course.mark (course_id, number, marked_at) values ('A', 0, now())")
    site.execute(f"grant usage on schema pysync to {app.role}")
    site.execute(f"grant execute on function pysync.mark(text) to {app.role}")
    session = app.connect()
    put_types_in_front(session, app.role)
    for statement in (
        "insert into public.auth_user (username, password) values ('ada', '')",
        "insert into public.student_courseenrollment (user_id, course_id)"
        " select id, 'A' from public.auth_user",
        "insert into public.auth_userprofile (user_id) select id from public.auth_user",
        "update public.auth_userprofile set name = 'Ada'",
        "update public.auth_user set username = 'countess'",
        "select pysync.mark('A')",
        "delete from public.student_courseenrollment",
        "delete from public.auth_user",
    ):
        session.execute(statement)
    site.execute(f"revoke all on schema pysync from {app.role}")
    site.execute(f"revoke all on function pysync.mark(text) from {app.role}")


def test_nor_are_they_in_a_course_database(site: Site) -> None:
    site.add("A")
    sent = site.one("select pysync.mark('A')")
    name = "somebody_with_types"
    with site.course("A") as course:
        course.execute(f"create role {name}")
        course.execute(f"grant usage on schema course to {name}")
        course.execute(f"grant execute on procedure course.wait_for(bigint, interval) to {name}")
        course.execute(f"set role {name}")
        put_types_in_front(course, name)
        course.execute("call course.wait_for(%s, '30 s')", [sent])
        course.execute("reset role")
        course.execute(f"drop owned by {name} cascade")
        course.execute(f"drop role {name}")


def intrude(app: App, body: str) -> None:
    """Put a trigger on the application's own table that notes who runs it, and does more."""
    app.execute("create table public.noted (who text, privileged boolean)")
    app.execute("grant insert on public.noted to public")
    app.execute(
        "create function public.intruder() returns trigger language plpgsql as $$ begin"
        " insert into public.noted select current_user, rolsuper from pg_roles"
        f" where rolname = current_user; {body} return new; end $$"
    )
    app.execute(
        "create trigger intruder before update on auth_user"
        " for each row execute function public.intruder()"
    )


def privileged(app: App) -> Rows:
    return app.execute(
        "select distinct who from noted where who <> %s and (privileged or who <> %s)",
        app.role,
        "pysync_fan_out",
    )


def test_a_trigger_on_the_applications_own_table_never_runs_as_a_superuser(owning: App) -> None:
    site = owning.site
    site.register_only("A")
    intrude(owning, "")
    ada = owning.user("ada")
    owning.enroll(ada, "A")
    owning.profile(ada)
    owning.execute("update auth_user set email = ''")
    owning.unenroll(ada, "A")
    assert privileged(owning) == []


def test_nor_does_it_when_an_administrator_backfills_a_course(owning: App) -> None:
    site = owning.site
    intrude(owning, "")
    owning.enroll(owning.user("ada"), "A")
    site.register_only("A")
    fan_out.backfill(site.connect(), CourseId("A"), lambda _: None)
    assert privileged(owning) == []


def test_nor_can_it_leave_something_behind_that_an_administrator_runs(owning: App) -> None:
    site = owning.site
    site.register_only("A")
    intrude(
        owning,
        "begin execute 'create or replace function pysync.registry_changed() returns trigger"
        " language plpgsql as $x$ begin insert into public.noted select current_user, rolsuper"
        " from pg_roles where rolname = current_user; return null; end $x$';"
        " exception when insufficient_privilege then null; end;",
    )
    owning.enroll(owning.user("ada"), "A")
    site.register_only("B")
    assert privileged(owning) == []


@pytest.mark.parametrize(
    "become",
    ["null", "perform pg_catalog.set_config('role', 'none', true)"],
    ids=["as_called", "role_reset"],
)
def test_nor_can_it_alter_a_routine_that_an_administrator_calls(owning: App, become: str) -> None:
    site = owning.site
    ada = owning.user("ada")
    owning.enroll(ada, "late")
    intrude(
        owning,
        "begin"
        " execute 'alter function pysync.backfill(text, bigint, integer) security invoker';"
        " execute 'alter function pysync.backfill(text, bigint, integer)"
        " set search_path = trap, pg_catalog';"
        " exception when insufficient_privilege then null; end;",
    )
    database = site.connect().info.dbname
    site.execute(f"grant create on database {database} to {owning.role}")
    owning.execute("create schema trap")
    owning.execute("grant usage on schema trap to public")
    owning.execute(
        "create function trap.cardinality(bigint[]) returns integer language plpgsql as $$ begin"
        f" {become};"
        " insert into public.noted select current_user, rolsuper from pg_roles"
        " where rolname = current_user; return pg_catalog.cardinality($1); end $$"
    )
    site.register_only("A", "late")
    owning.enroll(ada, "A")
    fan_out.backfill(site.connect(), CourseId("late"), lambda _: None)
    assert privileged(owning) == []


def test_the_roles_may_create_nothing(app: App) -> None:
    for name in ROLES:
        schemas = (
            "select nspname from pg_namespace"
            " where nspname !~ '^pg_' and has_schema_privilege(%s, oid, 'create')"
        )
        assert app.site.execute(schemas, name) == []
        database = "select has_database_privilege(%s, current_database(), 'create')"
        assert app.site.one(database, name) is False


def test_a_replication_role_sees_the_rows_of_its_courses_only(app: App) -> None:
    site = app.site
    site.register_only("A", "B", "C")
    for course in "ABC":
        user = app.user(f"user-{course}")
        app.profile(user)
        app.enroll(user, course)
        site.execute(
            "insert into course.mark (course_id, number, marked_at) values (%s, 0, now())",
            course,
        )
    with (
        role(site, attributes="login replication") as one,
        role(site, attributes="login replication") as two,
        connect(site.portal) as portal,
    ):
        for name in (one, two):
            publications.grant_reading(portal, name)
        record = "update pysync.course set replication_role = %s where course_id = any(%s)"
        site.execute(record, one, ["A", "B"])
        with site.connect(user=one) as first, site.connect(user=two) as second:
            for table in (*TABLES, "mark"):
                query = sql.SQL("select distinct course_id from course.{} order by 1").format(
                    sql.Identifier(table)
                )
                assert first.execute(query).fetchall() == [("A",), ("B",)]
                assert second.execute(query).fetchall() == []
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    first.execute(sql.SQL("delete from course.{}").format(sql.Identifier(table)))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                first.execute("select * from pysync.course")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                first.execute("select * from auth_user")
