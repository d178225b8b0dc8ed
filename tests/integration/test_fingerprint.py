"""A course's catalog that was altered in anything that is compared has another fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from pysync.adoption.found import FoundTable, inspect
from pysync.db.connections import Connection, connect
from pysync.diagnosis.drift import course_drift
from pysync.diagnosis.drift.fingerprint import read_fingerprint
from pysync.migrate.installed import differences
from pysync.migrate.lineage import COURSE
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication.registry import Course
from pysync.types import CourseId
from tests.support import Cluster

pytestmark = pytest.mark.oldest_and_newest("what catalogs hold, and which statements write them")

ALTER_FUNCTION = "alter function course.code_of_others(regclass)"
MARK_TRIGGER = "create or replace trigger pysync_refuse_rows before insert on course.mark"
ALTERED = (
    "drop table course.loan",
    "alter table course.mark rename to marks",
    "alter schema course rename to courses",
    "alter table course.mark owner to pg_monitor",
    "grant select on course.mark to public",
    "grant select (number) on course.mark to public",
    "alter table course.mark enable row level security",
    "alter table course.mark force row level security",
    "alter table course.auth_user enable row level security",
    "alter view course.replication_status reset (security_barrier)",
    "alter view course.replication_status owner to pg_monitor",
    "grant select on course.replication_status to public",
    "create or replace view course.replication_status with (security_barrier) as"
    " select * from course.replication_status where false",
    "alter table course.loan alter relation type bigint",
    "alter table course.mark alter number drop not null",
    "alter table course.mark alter number add generated always as identity",
    "alter table course.mark alter predecessors set default '[]'",
    "alter table course.mark rename number to numbers",
    "alter table course.loan drop borrower",
    "alter table course.auth_user alter email type text",
    "alter table course.auth_user alter email drop not null",
    "alter table course.auth_user alter email drop default",
    "alter table course.auth_user drop email",
    "alter table course.auth_user add own text not null default md5(random()::text)",
    "alter table course.mark drop constraint mark_pkey",
    "alter table course.mark drop constraint mark_pkey,"
    " add constraint mark_pkey primary key (number)",
    "alter table course.mark drop constraint mark_pkey,"
    " add constraint mark_pkey primary key (id) deferrable",
    "alter table course.mark drop constraint mark_pkey,"
    " add constraint mark_pkey check (id > 0) not valid",
    "alter table course.mark drop constraint mark_pkey,"
    " add constraint mark_pkey foreign key (id) references course.auth_user",
    "alter table course.auth_user drop constraint auth_user_username_key",
    "alter table course.auth_user drop constraint auth_user_pkey cascade",
    "alter table course.auth_user add constraint own check (email <> '')",
    "create unique index on course.auth_user (lower(email))",
    "drop index course.auth_userprofile_name_idx",
    "alter domain course.this_course_id drop constraint pysync_this_course",
    "alter domain course.this_course_id drop constraint pysync_this_course;"
    " alter domain course.this_course_id add constraint pysync_this_course check (true)",
    "alter table course.auth_user alter course_id type varchar(255)",
    "drop trigger pysync_refuse_rows on course.auth_user",
    "alter table course.auth_user disable trigger pysync_refuse_rows",
    "alter trigger pysync_refuse_rows on course.auth_user rename to own",
    f"{MARK_TRIGGER} for each row execute function course.refuse_write('own')",
    f"{MARK_TRIGGER} for each row execute function suppress_redundant_updates_trigger()",
    "drop trigger pysync_refuse_rows on course.mark;"
    " create constraint trigger pysync_refuse_rows after update on course.mark"
    " deferrable for each row execute function course.refuse_write()",
    "drop function course.code_of_others(regclass) cascade",
    "create or replace function course.refuse_write() returns trigger language plpgsql as"
    " 'begin return new; end'",
    f"{ALTER_FUNCTION} owner to pg_monitor",
    f"{ALTER_FUNCTION} rename to own",
    f"{ALTER_FUNCTION} security definer",
    f"{ALTER_FUNCTION} set search_path = public",
    f"{ALTER_FUNCTION} strict",
    f"{ALTER_FUNCTION} volatile",
    f"{ALTER_FUNCTION} parallel safe",
)
"""Statements after each of which something that is compared is another."""

NEVER_DIFFER = {
    ("table", "granted"),  # more of it is no difference, and less than nothing there isn't
    ("view", "granted"),
    ("table", "options"),  # views have them
    ("view", "row security"),  # tables have it
    ("view", "row security of owners"),
    ("function", "language"),  # takes another body, or a superuser who renames the language
}
NOT_READ = {"schema", "name", "has_rows", "duplicates"}


@pytest.fixture
def database(course_server: Cluster) -> Iterator[Connection]:
    """A course's database as it is made."""
    conninfo = course_server.create(template=course_server.course_template("A"))
    with closing(connect(conninfo)) as connection:
        yield connection
    course_server.drop(conninfo)


def read_tables(database: Connection) -> dict[str, FoundTable]:
    return inspect(database, "course", REPLICATED_TABLES, rows=False)


def facts(present: dict[str, Any] | None, recorded: dict[str, Any] | None) -> set[str]:
    then, now = recorded or {}, present or {}
    return {each for each in then if each not in now or now[each] != then[each]}


def test_whatever_is_compared_alters_the_fingerprint(database: Connection) -> None:
    """Each fact of each kind of object is altered by a statement of these, on its own."""
    made, tables = read_fingerprint(database), read_tables(database)
    assert differences(database, COURSE) == []
    told, fields_told = set(), set()
    for statement in ALTERED:
        with database.transaction(force_rollback=True):
            database.execute(statement.encode())
            there = database.execute("select to_regclass('course.installed') is not null")
            found = differences(database, COURSE) if there.fetchone() == (True,) else None
            now = read_tables(database)
            assert found != [] or now != tables, f"alters nothing that is compared: {statement}"
            if found is not None:  # else the schema itself has gone
                assert read_fingerprint(database) != made, statement
        for each in found or []:
            # What is missing tells of no fact.
            kept = facts(each.present, each.recorded) if each.present else set()
            told |= {(each.kind, fact) for fact in kept} | {(each.kind, "there")}
        fields_told |= {
            field.name
            for field in fields(FoundTable)
            for name, table in tables.items()
            if name in now and getattr(now[name], field.name) != getattr(table, field.name)
        }
    assert read_fingerprint(database) == made
    compared = database.execute(
        "select kind, fact from course.installed cross join jsonb_object_keys(facts) as fact"
        " where kind <> 'domain' union select kind, 'there' from course.installed"
    ).fetchall()
    assert {*compared} - NEVER_DIFFER <= told
    assert {field.name for field in fields(FoundTable)} - NOT_READ - fields_told <= {"kind"}


def test_what_isnt_compared_leaves_the_fingerprint_as_it_is(database: Connection) -> None:
    made = read_fingerprint(database)
    database.execute(
        "create table public.own (id bigint primary key references course.auth_user);"
        "insert into course.missing_mark (id, number, lost_before) values (1, 1, now())"
    )
    database.execute("vacuum (freeze, analyze) course.missing_mark")
    database.execute("vacuum (freeze, analyze) pg_catalog.pg_class")
    database.execute("set time zone 'Asia/Kathmandu'")
    assert read_fingerprint(database) == made
    with closing(connect(database.info.dsn)) as other:
        assert read_fingerprint(other) == made


def test_only_who_may_compare_says_that_nothing_differs(database: Connection) -> None:
    course = Course(CourseId("A"), "pysync_a", "", "", "")
    drift = course_drift(database, course)
    assert drift.fingerprint == read_fingerprint(database)
    database.execute("alter table course.mark disable trigger pysync_refuse_rows")
    assert course_drift(database, course).fingerprint is None
    database.execute(
        "create role onlooker_of_catalogs login;"
        "grant usage on schema course to onlooker_of_catalogs;"
        "grant select on course.this_course, course.alembic_version to onlooker_of_catalogs"
    )
    onlooker = make_conninfo(database.info.dsn, user="onlooker_of_catalogs")
    with closing(connect(onlooker)) as other:
        assert course_drift(other, course).fingerprint is None
    database.execute("drop owned by onlooker_of_catalogs; drop role onlooker_of_catalogs")
