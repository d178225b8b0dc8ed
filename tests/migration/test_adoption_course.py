"""A course site's own empty tables are moved into schema course, completed, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pysync.errors import AdoptionError, UnsuitableDatabaseError
from pysync.lifecycle import courses
from pysync.migrate.lineage import COURSE
from pysync.models.replicated import REPLICATED_TABLES
from pysync.types import CourseId
from pysync.watching.status import State, status
from tests.conftest import GRANTED
from tests.django_site.process import django, new_site
from tests.migration.catalog import catalog, difference
from tests.migration.conftest import NewDatabase, refusal, run
from tests.pages import page
from tests.support import (
    Cluster,
    Silent,
    Site,
    as_superuser,
    assert_live_rows,
    enroll,
    insert_user,
)

pytestmark = pytest.mark.oldest_and_newest("what is compared is how a server spells definitions")

FOREIGN_KEYS_TO_USERS = (
    "select conrelid::regclass::text from pg_constraint"
    " where contype = 'f' and confrelid = to_regclass(%s) order by 1"
)


@pytest.fixture
def course(new_database: NewDatabase, course_server: Cluster) -> str:
    """A course site's database, as Django's migrations made it."""
    return new_database(template=new_site(course_server, forum=True))


def change(conninfo: str, statements: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statements.encode())


def fetch(conninfo: str, query: str, *arguments: Any) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return [row[0] for row in connection.execute(query.encode(), arguments or None).fetchall()]


def test_a_course_site_is_adopted_used_and_given_back(site: Site, course_server: Cluster) -> None:
    course = site.new_database(template=new_site(course_server, forum=True))
    # PostgreSQL alters no column that a view has.
    change(course, "create view held as select course_id from student_courseenrollment")
    before = catalog(course)
    referring = fetch(course, FOREIGN_KEYS_TO_USERS, "public.auth_user")
    assert {"auth_user_groups", "django_admin_log", "forum_post"} <= set(referring)
    ada = insert_user(site, "ada")
    site.execute("insert into auth_userprofile (user_id, name) values (%s, 'Ada')", ada)
    site.add("A", course)
    enroll(site, ada, "A")
    site.wait()
    assert_live_rows(site, "A")
    assert fetch(course, FOREIGN_KEYS_TO_USERS, "course.auth_user") == sorted(referring)
    assert fetch(course, "select to_regclass('public.auth_user')") == [None]
    for table in REPLICATED_TABLES:
        of_another_course = f"update course.{table} set course_id = 'B'"
        with pytest.raises(psycopg.errors.CheckViolation, match="pysync_this_course"):
            change(course, f"set session_replication_role = replica; {of_another_course}")

    assert django(
        course,
        """
        from django.contrib.auth.models import Group
        from tests.django_site.forum.models import Post
        ada = User.objects.get(username="ada")
        ada.reputation += 41
        ada.save()
        ada.groups.add(Group.objects.create(name="staff"))
        Post.objects.create(author=ada, text="Hello")
        result = [ada.profile.name, CourseEnrollment.objects.get(user=ada).course_id]
        """,
        forum=True,
    ) == ["Ada", "A"]
    site.execute("update auth_user set email = 'new@example.org' where id = %s", ada)
    site.wait()
    assert fetch(course, "select (email, reputation)::text from auth_user") == [
        "(new@example.org,42)"
    ]

    courses.remove(site.portal, CourseId("A"))
    run(course, COURSE, "base")
    left = difference(before, catalog(course))
    # It was there before only if other tests' courses needed it.
    assert left.pop("roles", {"new": set()})["new"] == set()
    assert left == {}
    assert django(
        course,
        """
        from tests.django_site.forum.models import Post
        User.objects.create_user("bob")
        result = [Post.objects.get().author.email, User.objects.get(username="ada").reputation]
        """,
        forum=True,
    ) == ["new@example.org", 42]


@pytest.mark.newest("types as both ends have them")
def test_columns_stay_wide_where_the_rows_need_it(course: str) -> None:
    change(
        course,
        """
        alter table auth_user alter username type varchar(30), alter email type varchar(75),
                              alter last_login set not null
        """,
    )
    before = catalog(course)
    run(course, COURSE)
    change(
        course,
        """
        alter table course.auth_user disable trigger user;
        insert into course.auth_user
            (id, course_id, username, password, is_superuser, first_name, last_name, email,
             is_staff, is_active, date_joined)
        select 1099511627776, course_id, repeat('x', 150), '', false, '', '', '', false, true, now()
          from course.this_course
        """,
    )
    run(course, COURSE, "base")
    left = difference(before, catalog(course))
    assert {row[2:5] for row in left["columns"]["new"]} == {
        ("id", "bigint", True),
        ("username", "character varying(150)", True),
        ("last_login", "timestamp with time zone", False),
    }
    assert fetch(course, "select username from public.auth_user") == ["x" * 150]


def test_an_empty_course_site_is_given_back_as_it_was(course: str) -> None:
    change(
        course,
        """
        alter table auth_user alter username type varchar(30), alter email type varchar(75),
                              alter last_login set not null;
        alter table auth_userprofile drop constraint auth_userprofile_user_id_key, drop language;
        """,
    )
    before = catalog(course)
    run(course, COURSE)
    assert fetch(
        course,
        "select concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull)"
        " from pg_attribute where attrelid = 'course.auth_user'::regclass"
        " and attname in ('id', 'username', 'email', 'last_login') order by attname",
    ) == [
        "email character varying(254) t",
        "id bigint t",
        "last_login timestamp with time zone f",
        "username character varying(150) t",
    ]
    run(course, COURSE, "base")
    left = difference(before, catalog(course))
    assert {row[:3] for row in left.pop("columns")["new"]} == {
        ("public", "auth_userprofile", "language")
    }
    assert {row[2] for row in left.pop("constraints", {"new": set()})["new"]} <= {
        "auth_userprofile_language_not_null"
    }
    assert left == {}


REFUSED = {
    "users": (
        "insert into auth_user (username, password, is_superuser, first_name, last_name, email,"
        " is_staff, is_active, date_joined) values ('x', '', false, '', '', '', false, true, now())",
        "table 'public.auth_user' can't be adopted: it holds rows",
        "give the course a database without users",
    ),
    "an extension without a default": (
        "alter table auth_user alter reputation drop default",
        "table 'public.auth_user' column 'reputation' can't be adopted: found NOT NULL without a default,"
        " expected a default or nullable",
        "pg_temp; alter table public.auth_user alter column reputation set default …",
    ),
    "unique e-mail addresses": (
        "alter table auth_user add unique (email)",
        "table 'public.auth_user' column 'email' can't be adopted: found unique ('auth_user_email_key')",
        "drop it in the course database",
    ),
    "unique e-mail addresses where there are any": (
        "create unique index one_each on auth_user (email) where email <> ''",
        "table 'public.auth_user' column 'email' can't be adopted: found unique ('one_each')",
        "drop it in the course database",
    ),
    "unique e-mail addresses in any case": (
        "create unique index any_case on auth_user (lower(email))",
        "table 'public.auth_user' column 'email' can't be adopted: found unique ('any_case')",
        "drop it in the course database",
    ),
    "unique e-mail addresses at the transaction's end": (
        "alter table auth_user add constraint late unique (email) deferrable initially deferred",
        "table 'public.auth_user' column 'email' can't be adopted: found unique ('late')",
        "drop it in the course database",
    ),
    "usernames of which only some are taken": (
        "create unique index any_case on auth_user (lower(username))",
        "table 'public.auth_user' column 'username' can't be adopted: found unique ('any_case')",
        "drop it in the course database",
    ),
    "an extension that is unique and alike": (
        "alter table auth_user add slug text not null default '' unique",
        "table 'public.auth_user' column 'slug' can't be adopted: found unique ('auth_user_slug_key')",
        "drop it in the course database",
    ),
    "an exclusion constraint": (
        "alter table auth_user add constraint apart exclude using btree (email with =)",
        "table 'public.auth_user' column 'email' can't be adopted: found an exclusion constraint ('apart')",
        "drop it in the course database",
    ),
    "a check of a replicated column": (
        "alter table auth_userprofile add constraint grown_up check (year_of_birth < 2010)",
        "table 'public.auth_userprofile' column 'year_of_birth' can't be adopted: found a CHECK constraint"
        " ('grown_up')",
        "drop it in the course database",
    ),
    "a view": (
        "alter table student_courseenrollment rename to enrollments;"
        "create view student_courseenrollment as select * from enrollments",
        "table 'public.student_courseenrollment' can't be adopted: found a view",
        "change it",
    ),
    "a wrong type": (
        "alter table auth_user alter is_staff type integer using 0",
        "table 'public.auth_user' column 'is_staff' can't be adopted: found integer,"
        " expected boolean",
        "change it",
    ),
}


@pytest.mark.parametrize("defect", REFUSED)
def test_a_table_that_would_stop_replication_is_refused(
    course_server: Cluster, defect: str
) -> None:
    statements, message, remedy = REFUSED[defect]
    site = course_server.conninfo(new_site(course_server, forum=True))
    error = refusal(site, COURSE, statements)
    assert message in error.message
    assert remedy in (error.remedy or "")


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_refused_course_leaves_nothing_on_the_portal(site: Site, course_server: Cluster) -> None:
    course = site.new_database(template=new_site(course_server, forum=True))
    change(course, REFUSED["unique e-mail addresses"][0])
    portal, before = catalog(site.portal), catalog(course)
    with pytest.raises(AdoptionError):
        site.add("A", course)
    assert difference(portal, catalog(site.portal)) == {}
    assert difference(before, catalog(course)) == {}
    assert site.execute("select * from pysync.course") == []


def test_extensions_that_never_collide_are_adopted(site: Site, course_server: Cluster) -> None:
    course = site.new_database(template=new_site(course_server, forum=True))
    change(
        course,
        """
        alter table auth_user
            add nickname text unique,
            add token uuid not null default gen_random_uuid() unique,
            add number bigint generated by default as identity unique,
            add unique (username, email),
            add check (reputation < 1000000);
        """,
    )
    for name in ("ada", "bob"):
        enroll(site, insert_user(site, name, email=""), "A")
    site.add("A", course)
    enroll(site, insert_user(site, "cleo", email=""), "A")
    site.wait()
    assert_live_rows(site, "A")
    assert fetch(course, "select number from auth_user order by number") == [1, 2, 3]


@pytest.mark.newest("a setting as old as schemas")
@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("public, extensions", "public, extensions, course"),
        ('"$user", course, "My Schema"', '"$user", course, "My Schema"'),
    ],
)
def test_a_search_path_of_the_database_is_kept_and_extended(
    course: str, setting: str, expected: str
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(course)["dbname"]
    change(course, f"alter database {name} set search_path = {setting}")
    run(course, COURSE)
    assert fetch(course, "show search_path") == [expected]
    run(course, COURSE, "base")
    run(course, COURSE)
    run(course, COURSE, "base")
    without = ", ".join(entry for entry in setting.split(", ") if entry != "course")
    assert fetch(course, "show search_path") == [without]


@pytest.fixture
def roles(course_server: Cluster) -> Iterator[tuple[str, str, str]]:
    names = ("site_app", "site_reporting", "stranger")
    for name in names:
        change(course_server.conninfo(), f"create role {name} login")
    yield names
    for name in names:
        change(course_server.conninfo(), f"drop role {name}")


def test_who_could_use_a_moved_table_still_can(
    roles: tuple[str, str, str], new_database: NewDatabase, course_server: Cluster
) -> None:
    course = new_database(template=new_site(course_server, forum=True))
    application, reporting, stranger = roles
    change(
        course,
        f"grant select, update on auth_user to {application};"
        f"grant select (id, username) on auth_user to {reporting}",
    )
    run(course, COURSE)
    for role, query in (
        (application, "select count(*) from auth_user where email = ''"),
        (reporting, "select count(username) from auth_user"),
    ):
        assert fetch(make_conninfo(course, user=role), query) == [0]
    with pytest.raises(psycopg.errors.UndefinedTable):
        fetch(make_conninfo(course, user=stranger), "select count(id) from auth_user")
    change(course, f"drop owned by {application}, {reporting}")


@pytest.mark.newest("names are found alike on both ends")
def test_a_table_that_hides_the_replicated_one_is_reported(
    site: Site, course_server: Cluster
) -> None:
    site.add("A", site.new_database(template=new_site(course_server, forum=True)))
    site.wait()
    assert status(site.portal)[0].state is State.STREAMING
    change(site.databases["A"], "create table public.auth_user (id integer)")
    [found] = status(site.portal, CourseId("A"))
    assert found.state is State.DRIFTED
    assert found.cause is not None
    assert found.cause.startswith("critical: public.auth_user hides the replicated table")
    assert [each.object for each in found.drift] == ["critical: public.auth_user"]
    change(site.databases["A"], "drop table public.auth_user")
    assert status(site.portal)[0].state is State.STREAMING


# A whole run of the site's migrations in one transaction, as the page for administrators has it.
(BORROWED,) = (block.text for block in page("migrations/README.md").blocks("python"))

ALTERED = """
    from django.db import models
    nick = models.CharField(max_length=20, null=True, db_index=True)
    nick.set_attributes_from_name("nick")
    before = User._meta.get_field("reputation")
    wide = models.PositiveBigIntegerField(default=1, db_default=1)
    wide.set_attributes_from_name("reputation")
    wide.model = nick.model = User
    with connection.schema_editor() as editor:
        editor.add_field(User, nick)
        editor.alter_field(User, before, wide)
"""

GRANTS = """
select format('%s %s %s', g.privilege_type, g.grantee::regrole, g.is_grantable)
  from pg_class c, pg_attribute a, lateral (select * from aclexplode(c.relacl)
                                             union all select * from aclexplode(a.attacl)) as g
 where c.oid = to_regclass('auth_user') and a.attrelid = c.oid and a.attname = 'id'
   and g.grantee <> c.relowner and g.privilege_type in ('REFERENCES', 'TRIGGER')
 order by 1
"""

OWNER = "select relowner::regrole::text from pg_class where oid = 'course.auth_user'::regclass"


@pytest.mark.also_granted("what it takes to lend a table")
@pytest.mark.oldest_and_newest("15 applies as the subscription's owner, later as the table's")
@pytest.mark.parametrize("keep_owner", [False, True], ids=["lent", "kept"])
def test_a_site_goes_on_migrating_while_its_course_streams(
    site: Site, course_server: Cluster, rights: str, *, keep_owner: bool
) -> None:
    database = site.new_database(template=new_site(course_server))
    course, role = as_superuser(database), f"site_{uuid4().hex[:8]}"
    change(course, f"create role {role} login; alter schema public owner to {role}")
    tables = fetch(course, "select tablename::text from pg_tables where schemaname = 'public'")
    change(course, "".join(f"alter table public.{name} owner to {role};" for name in tables))
    if rights == GRANTED:
        change(course, f"grant {role} to granted")
    with_grants = "grant trigger, references (id) on auth_user to {} with grant option"
    change(
        course, with_grants.format("pg_checkpoint") + "; grant references on auth_user to public"
    )
    change(course, f"create role {role}_gone; grant trigger on auth_user to {role}_gone")
    granted = fetch(course, GRANTS)
    enroll(site, insert_user(site, "ada"), "A")
    site.databases["A"] = database
    if rights == GRANTED and not keep_owner:
        # Of which it is a member, and so would revoke in that one's name.
        change(course, with_grants.format("pg_monitor"))
        with pytest.raises(UnsuitableDatabaseError, match="keeps TRIGGER or REFERENCES"):
            courses.add(site.portal, CourseId("A"), database, Silent())
        change(course, "revoke trigger, references (id) on auth_user from pg_monitor")
    courses.add(site.portal, CourseId("A"), database, Silent(), keep_owner=keep_owner)
    assert fetch(course, GRANTS) == (granted if keep_owner else [])
    change(course, f"drop owned by {role}_gone; drop role {role}_gone")
    assert fetch(course, OWNER) == [role if keep_owner else "pysync_course"]
    as_site = make_conninfo(course, user=role)
    change(course, f"grant execute on procedure course.lend_table(text) to {role}")
    if keep_owner:
        change(course, f"grant create on schema course to {role}")
    else:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            change(as_site, "alter table auth_user add column reputation integer")
    # Installs an app whose table points at users, and which adds a column to theirs; then alters it.
    django(as_site, BORROWED + ALTERED, forum=True)
    enroll(site, insert_user(site, "bob"), "A")
    site.wait()
    assert_live_rows(site, "A")
    assert django(
        as_site,
        """
        from tests.django_site.forum.models import Post
        bob = User.objects.get(username="bob")
        bob.reputation = 2**40
        bob.save()
        Post.objects.create(author=bob, text="Hello")
        result = [each.reputation for each in User.objects.order_by("username")]
        """,
        forum=True,
    ) == [1, 2**40]
    assert fetch(
        course,
        "select distinct relowner::regrole::text from pg_class"
        " where relname like 'auth\\_user%%' and relnamespace = 'course'::regnamespace",
    ) == [role if keep_owner else "pysync_course"]
    (report,) = status(site.portal)
    assert (report.state, report.cause) == (State.STREAMING, None)
    courses.remove(site.portal, CourseId("A"))
    assert fetch(course, OWNER) == [role]
    assert fetch(course, GRANTS) == [each for each in granted if "_gone" not in each]
