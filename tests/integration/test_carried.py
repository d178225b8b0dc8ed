"""Columns of a portal's own that are carried: what becomes of them, and of whoever writes.

That the fan-out's rules hold for them is shown by every test that uses ``app``: its portal has such
columns of all three tables.
"""

from __future__ import annotations

import itertools
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.integration.fan_out import AWKWARD, TABLES, App, carry, differences
from tests.support import Site

pytestmark = pytest.mark.oldest_and_newest("what functions' plans and types are like")

ISOLATION = ("read committed", "repeatable read", "serializable")


def copies(site: Site, table: str, column: str, course: str = "A") -> dict[int, str | None]:
    """Return a column of a course's fan-out by user."""
    user = "id" if table == "auth_user" else "user_id"
    query = sql.SQL("select {}, {} from {} where course_id = {}").format(
        *map(sql.Identifier, (user, column)), sql.Identifier("course", table), sql.Literal(course)
    )
    return dict(site.execute(query))


def versions(site: Site) -> list[tuple[Any, ...]]:
    return site.execute(
        " union all ".join(
            f"select '{each}', ctid, xmin::text from course.{each}" for each in TABLES
        )
    )


@pytest.fixture
def ada(app: App) -> int:
    app.site.register_only("A", "B")
    ada = app.user("ada")
    app.profile(ada)
    app.enroll(ada, "A", "B")
    return ada


def test_a_change_of_one_alone_arrives_at_any_isolation_level_and_of_others_nothing(
    app: App, ada: int
) -> None:
    bob = app.user("bob")
    app.profile(bob)
    app.enroll(bob, "A")
    for level in ISOLATION:
        with app.connect() as session, session.transaction():
            session.execute(f"set transaction isolation level {level}".encode())
            for table in TABLES:
                for name in AWKWARD:
                    update = sql.SQL("update {} set {} = {}").format(
                        *map(sql.Identifier, (table, name)), sql.Literal(f"{level} {name}")
                    )
                    session.execute(update)
        assert differences(app.site) == [], level
    assert copies(app.site, "auth_userprofile", "order") == dict.fromkeys(
        (ada, bob), "serializable order"
    )
    app.site.execute(
        ";".join(f"alter table public.{table} add column karma integer" for table in TABLES)
    )
    before = versions(app.site)
    for table in TABLES:
        app.execute(f'update {table} set karma = 1, "order" = "order"')
    assert versions(app.site) == before


def test_an_older_snapshot_cannot_lose_a_change_of_one(app: App, ada: int) -> None:
    for table, user in (("auth_user", "id"), ("auth_userprofile", "user_id")):
        update = sql.SQL("update {} set \"order\" = 'late' where {} = {}; commit").format(
            *map(sql.Identifier, (table, user)), sql.Literal(ada)
        )
        app.unenroll(ada, "B")
        late = app.connect()
        late.execute("begin isolation level repeatable read; select from auth_user")
        app.enroll(ada, "B")
        with pytest.raises(psycopg.errors.SerializationFailure):
            late.execute(update)
        assert differences(app.site) == [], table


def test_a_frozen_copy_keeps_its_value_enrolling_refreshes_it_and_deleting_scrubs_it(
    app: App, ada: int
) -> None:
    site = app.site
    was = {table: copies(site, table, "value")[ada] for table in TABLES}
    app.unenroll(ada, "A")
    for table in TABLES[:2]:
        app.execute(f"update {table} set value = 'later'")
        assert copies(site, table, "value") == {ada: was[table]}
        assert copies(site, table, "value", "B") == {ada: "later"}
    app.enroll(ada, "A")
    assert copies(site, "auth_user", "value") == {ada: "later"}
    assert differences(site) == []
    app.unenroll(ada, "B")
    app.execute("delete from auth_user")
    for course in "AB":
        assert copies(site, "auth_user", "value", course) == {ada: None}
    assert site.execute("select * from pysync.fan_out_differences('A')") == []


def test_a_deleted_user_is_left_with_what_scrub_says(own_app: App) -> None:
    app, site = own_app, own_app.site
    site.execute(
        "alter table public.auth_user add column consent boolean,"
        " add column quote text, add column zone text not null default 'UTC'"
    )
    odd = "it's a \\ $$ %s {user_columns} é"
    carry(site, "auth_user", "consent", "f")
    carry(site, "auth_user", "quote", odd)
    carry(site, "auth_user", "zone")
    site.register_only("A")
    ada, bob = app.user("ada", consent=True, zone="CET"), app.user("bob", quote="x")
    app.enroll(ada, "A")
    app.enroll(bob, "A")
    app.unenroll(bob, "A")
    app.execute("delete from auth_user")
    for column, value in (("consent", "f"), ("quote", odd), ("zone", "UTC")):
        assert copies(site, "auth_user", column) == {ada: value, bob: value}
    # Users whom a course can't let go are entered so.
    site.execute("select pysync.keep_scrubbed('A', array[77])")
    assert copies(site, "auth_user", "quote")[77] == odd
    assert site.execute("select * from pysync.fan_out_differences('A')") == []


ALTERED = {
    "widened": "alter column c type varchar(20)",
    "widened to text": "alter column c type text",
    "another type": "alter column c drop default, alter column c drop not null, alter column c type"
    " bytea using c::bytea",
    "and back": "alter column c type text using convert_from(c, 'utf8')",
    "renamed": "rename column c to d",
    "back": "rename column d to c",
    "dropped": "drop column c",
    "added again": "add column c jsonb default '{}' not null",
    "dropped again": "drop column c",
}


def test_whatever_becomes_of_them_nobodys_write_fails(own_app: App) -> None:
    """By sessions that have made their plans before; courses keep what they have of one that is gone."""
    app, site = own_app, own_app.site
    for table in TABLES:
        site.execute(
            f"alter table public.{table} add column c varchar(10) not null default 'zz',"
            " add column other text default 'other'"
        )
        carry(site, table, "c")
        carry(site, table, "other")
    site.register_only("A", "B")
    ada = app.user("ada")
    app.profile(ada)
    app.enroll(ada, "A", "B")
    for table in TABLES:
        app.execute(f"update {table} set c = 'before'")
    for what, action in ALTERED.items():
        is_there = not what.startswith(("renamed", "dropped"))
        for table in TABLES:
            site.execute(f"alter table public.{table} {action}")
            if what == "added again":
                app.execute(f"update {table} set c = '[1]'")
            app.execute(f"update {table} set other = %s", what)
        app.execute("update auth_user set email = %s", what)
        app.execute("update auth_userprofile set goals = %s", what)
        app.execute("update student_courseenrollment set created = now()")
        newcomer = app.user(f"new {what}")
        app.profile(newcomer)
        app.enroll(newcomer, "A", "B")
        app.unenroll(ada, "B")
        app.execute("update auth_user set username = 'ada' || %s where id = %s", what, ada)
        app.enroll(ada, "B")
        for table, course in itertools.product(TABLES, "AB"):
            assert set(copies(site, table, "other", course).values()) <= {what, "other"}
            if not is_there:
                # What it had is kept; but this enrollment is another one now.
                is_new = (table, course) == ("student_courseenrollment", "B")
                had = "[1]" if "again" in what else "before"
                found = copies(site, table, "c", course)
                assert (found[newcomer], found[ada]) == ("zz", "zz" if is_new else had), table
        for course in "AB":
            assert site.execute("select * from pysync.fan_out_differences(%s)", course) == [], what
        if is_there:
            shown = {"another type": "\\x6265666f7265", "added again": "[1]"}.get(what, "before")
            assert copies(site, "auth_user", "c")[ada] == shown
