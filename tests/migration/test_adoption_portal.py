"""A portal that is a Django site already: its tables are checked, completed, or refused."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from pysync.errors import AdoptionError
from pysync.lifecycle import courses
from pysync.migrate.lineage import PORTAL
from pysync.models.replicated import REPLICATED_TABLES
from pysync.types import CourseId
from tests.django_site.process import django, new_site
from tests.migration.catalog import catalog, difference
from tests.migration.conftest import NewDatabase, refusal, run
from tests.support import Cluster, Site, assert_live_rows

pytestmark = pytest.mark.oldest_and_newest("what is compared is how a server spells definitions")

PEOPLE = """
insert into auth_user (id, username, password, is_superuser, first_name, last_name, email, is_staff,
                       is_active, date_joined)
values (1, 'ada', 'x', false, 'Ada', '', '', false, true, '1815-12-10'),
       (2, 'bob', 'x', false, 'Bob', '', '', false, true, '2012-08-01');
insert into auth_userprofile (id, user_id, name, meta, courseware, language, location)
values (11, 1, 'Ada L.', '', '', '', '');
insert into student_courseenrollment (id, user_id, course_id, created)
values (21, 1, 'A', '2012-08-02'), (22, 2, 'A', null), (23, 2, 'default', null)
"""

# Django's names end in a hash.
DROP_FOREIGN_KEY = """
do $$
begin
    execute (select format('alter table %s drop constraint %I', conrelid::regclass, conname)
               from pg_constraint
              where conrelid = 'student_courseenrollment'::regclass and contype = 'f');
end
$$;
"""


@pytest.fixture
def portal(new_database: NewDatabase, course_server: Cluster) -> str:
    """A Django site's database with two people in it."""
    conninfo = new_database(template=new_site(course_server))
    change(conninfo, PEOPLE)
    return conninfo


def change(conninfo: str, statements: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statements.encode())


def rows(conninfo: str, *tables: str) -> dict[str, set[tuple[Any, ...]]]:
    """Return the rows of tables, columns by name."""
    with psycopg.connect(conninfo) as connection:
        return {
            table: set(
                connection.execute(
                    sql.SQL("select to_jsonb(t)::text from public.{} as t").format(
                        sql.Identifier(table)
                    )
                ).fetchall()
            )
            for table in tables
        }


def test_a_django_portal_is_adopted_and_its_writes_reach_a_course(
    portal_server: Cluster, course_server: Cluster
) -> None:
    site = Site(
        portal_server, course_server, portal_server.create(template=new_site(portal_server))
    )
    try:
        change(site.portal, PEOPLE)
        before, people = catalog(site.portal), rows(site.portal, *REPLICATED_TABLES)
        run(site.portal, PORTAL)
        assert rows(site.portal, *REPLICATED_TABLES) == people
        assert site.add("A").users == 2
        ids = django(
            site.portal,
            """
            from django.db import connection, transaction
            with connection.cursor() as cursor:
                cursor.execute("select setval('auth_user_id_seq', 100)")
            with transaction.atomic():
                cleo = User.objects.create_user("cleo", "cleo@example.org", "secret")
                UserProfile.objects.create(user=cleo, name="Cleo", year_of_birth=1990)
                CourseEnrollment.objects.create(user=cleo, course_id="A")
            dan = User.objects.create_user("dan", "dan@example.org")
            CourseEnrollment.objects.bulk_create(
                [CourseEnrollment(id=n + 50, user=dan, course_id=c) for n, c in enumerate("AB")])
            ada = User.objects.get(username="ada")
            ada.email = "ada@example.org"
            ada.save()
            ada.profile.goals = "sums"
            ada.profile.save()
            User.objects.get(username="bob").courseenrollment_set.filter(course_id="A").delete()
            result = [cleo.id, dan.id]
            """,
        )
        site.wait()
        assert_live_rows(site, "A")
        course = site.course("A")
        assert course.execute(
            "select id, username, email from auth_user order by id"
        ).fetchall() == [
            (1, "ada", "ada@example.org"),
            (2, "bob", ""),
            (ids[0], "cleo", "cleo@example.org"),
            (ids[1], "dan", "dan@example.org"),
        ]
        django(site.portal, "User.objects.get(username='cleo').delete()")
        site.wait()
        assert_live_rows(site, "A")
        assert course.execute(
            "select username from auth_user where id = %s", (ids[0],)
        ).fetchall() == [(f"deleted-{ids[0]}",)]

        people = rows(site.portal, *REPLICATED_TABLES)
        courses.remove(site.portal, CourseId("A"))
        run(site.portal, PORTAL, "base")
        left = difference(before, catalog(site.portal))
        left.pop("roles", None)  # another portal of this server still needs it
        assert left == {}
        assert rows(site.portal, *REPLICATED_TABLES) == people
        assert django(site.portal, "result = User.objects.create_user('eve').username") == "eve"
    finally:
        site.close()


REFUSED = {
    "a wrong type": (
        "alter table auth_userprofile alter year_of_birth type text",
        "'public.auth_userprofile' column 'year_of_birth'",
        "found text, expected integer",
    ),
    "a wider integer": (
        "alter table auth_userprofile alter year_of_birth type bigint",
        "'public.auth_userprofile' column 'year_of_birth'",
        "found bigint, expected integer",
    ),
    "a wider varchar": (
        "alter table auth_user alter username type varchar(200)",
        "'public.auth_user' column 'username'",
        "found character varying(200), expected character varying(150)",
    ),
    "unlimited text": (
        "alter table auth_user alter email type text",
        "'public.auth_user' column 'email'",
        "found text, expected character varying(254)",
    ),
    "a timestamp without time zone": (
        "alter table auth_user alter date_joined type timestamp",
        "'public.auth_user' column 'date_joined'",
        "found timestamp without time zone, expected timestamp with time zone",
    ),
    "nulls": (
        "alter table auth_userprofile alter name drop not null;"
        "update auth_userprofile set name = null",
        "'public.auth_userprofile' column 'name'",
        "found nullable, with nulls in it, expected NOT NULL",
    ),
    "a required column that is missing": (
        "alter table auth_user drop password",
        "'public.auth_user' column 'password'",
        "found no such column, expected character varying(128) NOT NULL",
    ),
    "another primary key": (
        "alter table student_courseenrollment drop constraint student_courseenrollment_pkey;"
        "alter table student_courseenrollment add primary key (user_id, course_id)",
        "'public.student_courseenrollment' column 'id'",
        "found primary key (user_id, course_id), expected primary key (id)",
    ),
    "no primary key": (
        "alter table auth_userprofile drop constraint auth_userprofile_pkey",
        "'public.auth_userprofile' column 'id'",
        "found no primary key, expected primary key (id)",
    ),
    "a view": (
        "alter table auth_userprofile rename to profiles;"
        "create view auth_userprofile as select * from profiles",
        "'public.auth_userprofile'",
        "found a view, expected an ordinary table",
    ),
    "a partitioned table": (
        "drop table student_courseenrollment;"
        "create table student_courseenrollment (id int) partition by hash (id)",
        "'public.student_courseenrollment'",
        "found a partitioned table, expected an ordinary table",
    ),
    "a foreign key to other users": (
        "create table people (id integer primary key); insert into people values (1), (2);"
        f"{DROP_FOREIGN_KEY}"
        "alter table student_courseenrollment add foreign key (user_id) references people",
        "'public.student_courseenrollment' column 'user_id'",
        "found a foreign key to public.people, expected one to public.auth_user",
    ),
    "row-level security": (
        "alter table auth_user enable row level security",
        "'public.auth_user'",
        "found row-level security, expected none",
    ),
}


@pytest.mark.parametrize("defect", REFUSED)
def test_a_table_that_can_not_be_completed_is_refused(course_server: Cluster, defect: str) -> None:
    statements, where, what = REFUSED[defect]
    site = course_server.conninfo(new_site(course_server))
    error = refusal(site, PORTAL, f"{PEOPLE}; {statements}")
    assert f"table {where} can't be adopted: {what}" in error.message
    assert error.remedy == "change it and run the command again"


# What the server finds only when constraints are added.
INCONSISTENT = {
    "duplicates": (
        "alter table auth_userprofile drop constraint auth_userprofile_user_id_key;"
        "insert into auth_userprofile (id, user_id, name, meta, courseware, language, location)"
        " values (12, 1, '', '', '', '', '')",
        "'public.auth_userprofile' can't be adopted: Key (user_id)=(1) is duplicated.",
        "remove the duplicates",
    ),
    "orphans": (
        f"{DROP_FOREIGN_KEY}"
        "insert into student_courseenrollment (id, user_id, course_id) values (24, 99, 'A')",
        "'public.student_courseenrollment' can't be adopted: "
        '“Key (user_id)=(99) is not present in table "auth_user".”',
        "remove the rows without a user",
    ),
    "nulls": (
        f"{REFUSED['nulls'][0]}",
        "'public.auth_userprofile' column 'name' can't be adopted: found nullable, with nulls",
        "change it",
    ),
}


@pytest.mark.parametrize("defect", INCONSISTENT)
def test_a_refused_portal_is_left_as_it_was(portal: str, defect: str) -> None:
    statements, message, remedy = INCONSISTENT[defect]
    change(portal, statements)
    before, people = catalog(portal), rows(portal, *REPLICATED_TABLES)
    with pytest.raises(AdoptionError) as caught:
        run(portal, PORTAL)
    assert message in caught.value.message
    assert remedy in (caught.value.remedy or "")
    assert difference(before, catalog(portal)) == {}
    assert rows(portal, *REPLICATED_TABLES) == people


def test_what_is_missing_is_added_and_taken_back_but_for_columns(portal: str) -> None:
    change(
        portal,
        f"""{DROP_FOREIGN_KEY}
        alter table auth_userprofile
            drop goals, drop meta, drop constraint auth_userprofile_user_id_key,
            alter name drop not null;
        alter table student_courseenrollment drop created;
        drop index auth_userprofile_gender_44a122fb, auth_userprofile_gender_44a122fb_like;
        """,
    )
    before, people = catalog(portal), rows(portal, *REPLICATED_TABLES)
    run(portal, PORTAL)
    with psycopg.connect(portal, autocommit=True) as connection:
        row = connection.execute(
            "select meta, goals, created from auth_userprofile, student_courseenrollment"
            " where auth_userprofile.user_id = student_courseenrollment.user_id"
        ).fetchone()
        assert row == ("", None, None), "rows that were there get no invented values"
        connection.execute(
            "insert into pysync.course (course_id, replication_name, conninfo, portal_conninfo,"
            " replication_role) values ('A', 'a', '', '', '')"
        )
        connection.execute("select pysync.backfill('A', 0, 10)")
        connection.execute("update auth_userprofile set goals = 'sums'")
        copies = connection.execute("select id, goals from course.auth_userprofile").fetchall()
        assert copies == [(11, "sums")]
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(
                "insert into auth_userprofile (id, user_id, name, courseware, language, location)"
                " values (12, 1, '', '', '', '')"
            )
        with pytest.raises(psycopg.errors.NotNullViolation):
            connection.execute("update auth_userprofile set name = null")
        created = connection.execute(
            "insert into student_courseenrollment (id, user_id, course_id) values (24, 1, 'B')"
            " returning created is not null"
        ).fetchone()
        assert created == (True,)
        connection.execute("delete from student_courseenrollment where id = 24")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute(
                "insert into student_courseenrollment (id, user_id, course_id) values (24, 99, 'B')"
            )
        connection.execute("update auth_userprofile set goals = null")
        for table in (*REPLICATED_TABLES, "mark"):
            connection.execute(sql.SQL("delete from course.{}").format(sql.Identifier(table)))
        connection.execute("delete from pysync.course")
    run(portal, PORTAL, "base")
    left = difference(before, catalog(portal))
    assert {row[:3] for row in left.pop("columns")["new"]} == {
        ("public", "auth_userprofile", "goals"),
        ("public", "auth_userprofile", "meta"),
        ("public", "student_courseenrollment", "created"),
    }
    # Newer servers list NOT NULL as a constraint.
    assert {row[2] for row in left.pop("constraints", {"new": set()})["new"]} <= {
        "auth_userprofile_meta_not_null"
    }
    assert left == {}
    change(portal, "alter table auth_userprofile drop goals, drop meta")
    change(portal, "alter table student_courseenrollment drop created")
    assert rows(portal, *REPLICATED_TABLES) == people


@pytest.mark.newest("types as both ends have them")
def test_narrower_columns_of_an_old_django_are_fine_as_they_are(portal: str) -> None:
    change(
        portal,
        """
        alter table auth_user
            alter username type varchar(30), alter first_name type varchar(30),
            alter last_name type varchar(30), alter email type varchar(75);
        update auth_user set last_login = now();
        alter table auth_user alter last_login set not null;
        """,
    )
    before = catalog(portal)
    run(portal, PORTAL)
    kept = {
        kind: {row for row in found if row[:2] == ("public", "auth_user")}
        for kind, found in before.items()
        if kind in ("columns", "constraints")
    }
    after = catalog(portal)
    for kind, expected in kept.items():
        # The owner of the triggers may update id: see sql/portal/claim_members.sql.
        now = {row for row in after[kind] if row[:2] == ("public", "auth_user")}
        assert {row[2:7] for row in now} == {row[2:7] for row in expected}
    run(portal, PORTAL, "base")
    assert difference(before, catalog(portal)) == {}


@pytest.mark.newest("columns as both ends have them")
def test_tables_of_an_empty_site_may_lack_required_columns(
    new_database: NewDatabase, course_server: Cluster
) -> None:
    portal = new_database(template=new_site(course_server))
    change(portal, "alter table auth_user drop password")
    run(portal, PORTAL)
    change(
        portal,
        "insert into auth_user (username, password, is_superuser, first_name, last_name,"
        " email, is_staff, is_active, date_joined)"
        " values ('ada', 'x', false, '', '', '', false, true, now())",
    )
    run(portal, PORTAL, "base")
    change(
        portal,
        "insert into auth_user (username, is_superuser, first_name, last_name,"
        " email, is_staff, is_active, date_joined)"
        " values ('bob', false, '', '', '', false, true, now())",
    )
