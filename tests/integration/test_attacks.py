"""Whoever may hang code on the portal's tables tries to become more than they are by it.

Code that is struck through notes in sequences, which no rollback undoes, as whom it ran.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pysync.db.connections import connect
from pysync.db.sessions import portal_session
from pysync.errors import PysyncError
from pysync.lifecycle import erase
from pysync.migrate.validate import validate
from pysync.replication import fan_out, marks
from pysync.students import users
from pysync.types import CourseId
from pysync.verification import portal as verification
from pysync.watching.status import portal as watching
from tests.integration.fan_out import TABLES, App

pytestmark = pytest.mark.every_major("what is refused while restricted grew with each version")

A = CourseId("A")

STRIKE = """
create sequence public.struck;
create sequence public.harmless;
create function public.strike() returns text language plpgsql immutable as $$
declare
    attempt text;
begin
    foreach attempt in array array[
        'set role none', 'set session authorization default', 'alter role {role} superuser',
        'alter role pysync_fan_out superuser'
    ] loop
        begin
            execute attempt;
        exception when others then
            null;
        end;
    end loop;
    if exists (select from pg_catalog.pg_roles where rolname = current_user
                  and (rolsuper or rolname = 'pysync_owner')) then
        perform pg_catalog.nextval('public.struck');
    else
        perform pg_catalog.nextval('public.harmless');
    end if;
    return '';
end $$;
create function public.meet() returns trigger language plpgsql as $$
begin
    perform public.strike();
    {body}
    if tg_op = 'DELETE' then return old; end if;
    return new;
end $$;
grant usage on sequence public.struck, public.harmless to public;
"""

ALTER_ALL = """
    declare
        routine regprocedure;
    begin
        for routine in
            select oid from pg_catalog.pg_proc
             where prorettype <> 'trigger'::regtype and pronamespace in (select oid from pg_catalog.pg_namespace
                                     where nspname in ('pysync', 'course', 'student'))
        loop
            begin
                execute pg_catalog.format(
                    'alter function %s set search_path = trap, pg_catalog', routine);
            exception when insufficient_privilege then
                null;
            end;
        end loop;
    end;
"""


def arm(app: App, body: str = "") -> None:
    """Make the application's code; it is hung nowhere yet."""
    app.site.execute(f"grant create on schema public to {app.role}")
    app.execute(STRIKE.replace("{role}", app.role).replace("{body}", body))


def meet(app: App) -> None:
    """Hang it on the application's own tables, as triggers of any kind and as expressions."""
    for table in TABLES:
        app.execute(
            f"create trigger met before insert or update or delete on {table}"
            " for each row execute function public.meet()"
        )
        app.execute(f"create index on {table} ((public.strike() || id::text))")
        app.execute(
            f"create statistics public.met_{table} on (public.strike() || id::text), id from {table}"
        )


def struck(app: App) -> bool:
    return bool(app.one("select is_called from public.struck"))


def was_met(app: App) -> bool:
    return bool(app.one("select is_called from public.harmless"))


@pytest.fixture
def owning(own_app: App) -> Iterator[App]:
    """An application that owns the portal's tables, with a course and a user in it."""
    app = own_app
    app.site.register_only("A")
    app.site.execute(
        "insert into course.mark (course_id, number, marked_at) values ('A', 0, now())"
    )
    for table in TABLES:
        app.site.execute(f"alter table public.{table} owner to {app.role}")
    ada = app.user("ada")
    app.profile(ada)
    app.enroll(ada, "A")
    yield app
    assert not struck(app)
    assert app.one("select not rolsuper from pg_roles where rolname = %s", app.role)


def test_nobody_hangs_our_trigger_functions_on_tables_of_their_own(student_app: App) -> None:
    app = student_app
    functions = app.execute(
        "select oid::regprocedure::text from pg_proc where prorettype = 'trigger'::regtype"
        " and pronamespace::regnamespace::text in ('pysync', 'course', 'student')"
    )
    assert len(functions) > 12
    app.execute("create temporary table mine (user_id bigint, course_id text)")
    for (function,) in functions:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(f"create trigger t after insert on mine execute function {function}")


def test_where_somebody_may_nevertheless_they_run_nothing(app: App) -> None:
    """A type of one's own has casts of one's own: they ran as the function's owner."""
    name = app.role
    app.site.execute(
        f"grant usage on schema course to {name};"
        f" grant execute on function course.assign_roles() to {name};"
        f" create schema home authorization {name}"
    )
    app.execute(
        "create type home.bait as (a int);"
        "create function home.bite(home.bait) returns bigint language plpgsql as $$"
        " begin raise exception 'bitten as %', current_user; end $$;"
        "create cast (home.bait as bigint) with function home.bite(home.bait);"
        "create temporary table mine (user_id home.bait, course_id text);"
        "create trigger t after insert on mine referencing new table as new_rows"
        " for each statement execute function course.assign_roles()"
    )
    try:
        with pytest.raises(psycopg.errors.WrongObjectType):
            app.execute("insert into mine values (row(1), 'A')")
    finally:
        app.execute("drop table mine; drop schema home cascade")
        app.site.execute(
            f"revoke all on schema course from {name};"
            f" revoke all on function course.assign_roles() from {name}"
        )


def test_an_owners_code_can_not_alter_what_others_call(owning: App) -> None:
    site = owning.site
    arm(owning, ALTER_ALL)
    site.execute(
        f"create schema trap authorization {owning.role}; grant usage on schema trap to public"
    )
    owning.execute(
        "create function trap.now() returns timestamptz language plpgsql as"
        " $$ begin perform public.strike(); return pg_catalog.now(); end $$;"
        "create function trap.clock_timestamp() returns timestamptz language plpgsql as"
        " $$ begin perform public.strike(); return pg_catalog.clock_timestamp(); end $$;"
        "create function trap.current_setting(text) returns text language plpgsql as"
        " $$ begin perform public.strike(); return pg_catalog.current_setting($1); end $$;"
        "create function trap.same(bigint, bigint) returns boolean language plpgsql as"
        " $$ begin perform public.strike(); return $1 operator(pg_catalog.=) $2; end $$;"
        "create operator trap.= (leftarg = bigint, rightarg = bigint, function = trap.same);"
        "create function trap.same_text(text, text) returns boolean language plpgsql as"
        " $$ begin perform public.strike(); return $1 operator(pg_catalog.=) $2; end $$;"
        "create operator trap.= (leftarg = text, rightarg = text, function = trap.same_text)"
    )
    meet(owning)
    # Enrolling writes roles, and nothing else that applications own.
    site.execute(f"alter table django_comment_client_role_users owner to {owning.role}")
    owning.execute(
        "create trigger met before insert on django_comment_client_role_users"
        " for each row execute function public.meet()"
    )
    owning.enroll(owning.user("bob"), "A")
    altered = owning.execute(
        "select distinct proowner::regrole::text from pg_proc where proconfig::text ~ 'trap'"
    )
    assert altered == [("pysync_fan_out",)], "the code ran as nobody who may alter anything"
    administrator(owning)


def administrator(app: App) -> None:
    """Do what administrators do, as a superuser."""
    conninfo = app.site.portal
    with connect(conninfo) as portal:
        marks.mark(portal, A)
        assert watching.send_marks(portal, ["A"])
        fan_out.count_members(portal, A)
        for action in (
            lambda: fan_out.backfill(portal, A, lambda _: None),
            lambda: verification.differences(portal, A, with_values=True),
            lambda: fan_out.mend(portal, A, [1, 2]),
            lambda: fan_out.keep_scrubbed(portal, A, [99]),
            lambda: list(validate(conninfo)),
            lambda: erase.preview(conninfo, "ada"),
            lambda: erase.erase(conninfo, "ada"),
        ):
            try:
                action()
            except (PysyncError, psycopg.Error):
                assert (
                    app.site.execute("select from pg_class where relname like 'pysync_rows'") == []
                )


def test_an_owners_code_gains_nothing_from_an_administrator(owning: App) -> None:
    arm(owning)
    owning.execute(
        "alter table auth_userprofile drop constraint auth_userprofile_gender_check;"
        "alter table auth_userprofile add constraint auth_userprofile_gender_check"
        " check (gender in ('', 'm', 'f', 'o')) not valid"
    )
    meet(owning)
    conninfo = owning.site.portal
    with connect(conninfo) as portal:
        portal.execute("delete from course.auth_userprofile")
        portal.execute("delete from course.student_courseenrollment")
        assert len(verification.differences(portal, A)) == 2
        fan_out.mend(portal, A, [1])
        assert verification.differences(portal, A) == []
        fan_out.backfill(portal, A, lambda _: None)
        assert fan_out.count_members(portal, A) == 1
        fan_out.keep_scrubbed(portal, A, [99])
    assert [each.validated for each in validate(conninfo)] == [True]
    assert was_met(owning)
    assert erase.preview(conninfo, "ada").enrollments == 1
    erase.erase(conninfo, "ada")
    assert owning.execute("select from auth_user") == []


def test_nor_does_a_view_in_place_of_a_table(owning: App) -> None:
    arm(owning)
    owning.execute(
        "alter table auth_user rename to hidden;"
        "create view auth_user as select * from hidden where public.strike() = '';"
        "grant select on auth_user to pysync_fan_out"
    )
    administrator(owning)
    assert was_met(owning)


def test_a_superuser_who_would_lend_rights_is_told_to_be_an_application(owning: App) -> None:
    arm(owning)
    meet(owning)
    conninfo = owning.site.portal
    with (
        pytest.raises(PysyncError, match=f"in the hands of role '{owning.role}'") as raised,
        portal_session(conninfo) as session,
    ):
        users.change_email(session, "ada@example.org", "countess@example.org")
    assert raised.value.remedy == "connect as your application's role"
    with portal_session(conninfo, meets_users=False):
        pass


@pytest.mark.newest("one refusal of ours")
def test_erasing_meets_no_superusers_table_beside_an_applications(own_app: App) -> None:
    """Who owns one of the tables may alter our triggers on the others."""
    own_app.user("ada")
    own_app.site.execute(f"alter table student_courseenrollment owner to {own_app.role}")
    with pytest.raises(PysyncError, match=f"in the hands of role '{own_app.role}'"):
        erase.erase(own_app.site.portal, "ada")
    assert own_app.one("select count(*) from auth_user") == 1
