"""Columns of the portal's own: carried online, everywhere, and carried no longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.acceptance.test_cli_process import cli, courses_of, read_json, succeed
from tests.acceptance.test_relays import add, add_relay, states
from tests.support import Site, enroll, insert_user, unenroll

pytestmark = pytest.mark.oldest_and_newest("what publications, triggers and types are like")

TYPES: dict[str, tuple[str, list[str | None]]] = {
    "country": ("character varying(2)", ["de", None, ""]),
    "locale": ('text collate "C"', ["de_DE", "é", None]),
    "score": ("numeric(8,2)", ["1.50", "-3.00", None]),
    "ratio": ("double precision", ["0.1", "1e+300", None]),
    "seen": ("timestamp with time zone", ["2026-01-02 03:04:05.678+00", None, "infinity"]),
    "born": ("date", ["1815-12-10", None, "0044-03-15 BC"]),
    "lasts": ("interval", ["1 mon 2 days -03:04:05", None, "00:00:00"]),
    "prefs": ("jsonb", ['{"a": [1, null]}', "null", None]),
    "raw": ("json", ['{"b":1,  "a":2}', None, "[]"]),
    "tags": ("text[]", ['{a,"b c",NULL}', "{}", None]),
    "bits": ("bytea", ["\\x00ff", "\\x", None]),
    "level": ("public.level", ["low", "high", None]),
    "age": ("public.age", ["17", None, "99"]),
    "home": ("point", ["(1,2)", None, "(0,0)"]),
    "fee": ("money", ["$1.00", None, "-$2.50"]),
    "code": ("character(3)", ["a  ", None, "abc"]),
    "token": ("uuid", ["00000000-0000-0000-0000-000000000001", None, None]),
    "consent": ("boolean", ["t", "f", None]),
    "spans": ("int4range", ["[1,5)", "empty", None]),
}
"""A column of each type, and values as text: none of these types needs to have an equality."""


def own_types(site: Site, *courses: str) -> None:
    make = (
        "create type public.level as enum ('low', 'high');"
        " create domain public.age as integer check (value between 0 and 150)"
    )
    site.execute(make)
    for course in courses:
        site.course(course).execute(make)


def values(connection: Any, table: str, column: str) -> dict[int, str | None]:
    query = sql.SQL("select id, {}::text from {}").format(
        sql.Identifier(column), sql.Identifier(*table.split("."))
    )
    found = connection.execute(query)
    return dict(found if isinstance(found, list) else found.fetchall())


def described(site: Site, course: str, column: str) -> tuple[str | None, str]:
    """Return a column's collation, unless it is the usual, and whether it may be null."""
    query = (
        "select collation_name::text, is_nullable::text from information_schema.columns"
        " where table_schema = 'course' and column_name = %s"
    )
    (found,) = site.course(course).execute(query, (column,)).fetchall()
    return found[0], found[1]


def clean(site: Site, *courses: str) -> None:
    site.wait(*courses)
    succeed("verify", *courses, portal=site.portal)


@contextmanager
def down(site: Site, course: str) -> Iterator[None]:
    """Let nobody connect to a course's database meanwhile."""
    name = site.course(course).info.dbname
    with psycopg.connect(site.databases[course], dbname="postgres", autocommit=True) as server:
        server.execute(f'alter database "{name}" allow_connections false')
        ended = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
        server.execute(ended, (name,))
        try:
            yield
        finally:
            server.execute(f'alter database "{name}" allow_connections true')


def test_each_type_arrives(site: Site) -> None:
    add(site, "A")
    own_types(site, "A")
    for name, (type_, _) in TYPES.items():
        site.execute(f"alter table public.auth_userprofile add column {name} {type_}")
    users = [insert_user(site, f"u{number}") for number in range(3)]
    for number, user in enumerate(users):
        names = sql.SQL(", ").join(map(sql.Identifier, TYPES))
        texts = sql.SQL(", ").join(sql.Literal(of[number]) for _, of in TYPES.values())
        insert = "insert into public.auth_userprofile (user_id, {}) values ({}, {})"
        site.execute(sql.SQL(insert).format(names, sql.Literal(user), texts))
        enroll(site, user, "A")
    succeed("column", "add", "auth_userprofile", *TYPES, portal=site.portal)
    clean(site, "A")
    assert described(site, "A", "locale") == ("C", "YES")
    for name in TYPES:
        ours = values(site.course("A"), "course.auth_userprofile", name)
        assert ours == values(site, "public.auth_userprofile", name), name
    # The other way round, from a session that writes values in its own way.
    with site.connect() as session:
        casts = {name: type_.partition(" collate")[0] for name, (type_, _) in TYPES.items()}
        columns = sql.SQL(", ").join(map(sql.Identifier, TYPES))
        for number, user in enumerate(users):
            texts = sql.SQL(", ").join(
                sql.SQL("{}::{} as {}").format(
                    sql.Literal(of[2 - number]), sql.SQL(casts[name]), sql.Identifier(name)
                )
                for name, (_, of) in TYPES.items()
            )
            session.execute("set datestyle = 'ISO'")
            new = sql.SQL("create temporary table new on commit drop as select {}").format(texts)
            update = (
                "update public.auth_userprofile set ({}) = (select * from new) where user_id = %s"
            )
            with session.transaction():
                session.execute(new)
                session.execute("set datestyle = 'SQL, DMY'; set intervalstyle = 'iso_8601'")
                session.execute("set timezone = 'Asia/Tokyo'; set extra_float_digits = -10")
                session.execute("set bytea_output = 'escape'")
                session.execute(sql.SQL(update).format(columns), (user,))
    clean(site, "A")
    for name in TYPES:
        ours = values(site.course("A"), "course.auth_userprofile", name)
        assert ours == values(site, "public.auth_userprofile", name), name
    succeed("resync", "A", portal=site.portal)
    site.course("A").execute(
        "set session_replication_role = replica;"
        " update course.auth_userprofile set country = 'xx', raw = '1', spans = null"
    )
    succeed("repair", "A", portal=site.portal)
    clean(site, "A")
    assert states(site) == {"A": "streaming"}


def test_a_column_is_carried_while_a_course_is_down_and_by_way_of_a_relay(site: Site) -> None:
    add_relay(site)
    add(site, "A")
    add(site, "B", "north")
    add(site, "C")
    site.execute("alter table public.auth_user add column country varchar(2) not null default 'zz'")
    ada, bob = insert_user(site, "ada"), insert_user(site, "bob")
    for course in ("A", "B", "C"):
        enroll(site, ada, course)
        enroll(site, bob, course)
    unenroll(site, bob, "A")
    site.execute("update public.auth_user set country = 'de'")
    site.wait("A", "B", "C")
    with down(site, "C"):
        done = cli("column", "add", "auth_user", "country", portal=site.portal)
        assert done.returncode == 1
        for told in ("1 of 4 courses", "course 'C'", "pysync migrate"):
            assert told in done.stderr
        for course in ("A", "B"):
            assert values(site.course(course), "course.auth_user", "country")[ada] == "de"
        assert values(site.course("A"), "course.auth_user", "country")[bob] == "zz"
        assert described(site, "A", "country") == (None, "NO")
        site.execute("update public.auth_user set country = 'fr' where id = %s", ada)
    found = courses_of("status", portal=site.portal)
    assert (found["A"]["state"], found["B"]["state"]) == ("streaming", "streaming")
    assert (found["C"]["state"], found["C"]["commands"]) == ("drifted", ["pysync migrate"])
    succeed("migrate", portal=site.portal)
    clean(site, "A", "B", "C")
    for course in ("A", "B", "C"):
        assert values(site.course(course), "course.auth_user", "country")[ada] == "fr"
    assert set(states(site).values()) == {"streaming"}
    # Dropped on the portal: no write fails, and it is told.
    site.execute("alter table public.auth_user drop column country cascade")
    site.execute("update public.auth_user set email = 'x@example.org'")
    carl = insert_user(site, "carl")
    for course in ("A", "B", "C"):
        enroll(site, carl, course)
    site.wait("A", "B", "C")
    for course in ("A", "B", "C"):
        assert values(site.course(course), "course.auth_user", "country")[ada] == "fr"
        assert values(site.course(course), "course.auth_user", "country")[carl] == "zz"
    assert "column remove auth_user country" in str(read_json("status", portal=site.portal))
    succeed("column", "remove", "auth_user", "country", "--drop", portal=site.portal)
    clean(site, "A", "B", "C")
    assert set(states(site).values()) == {"streaming"}
    assert site.course("A").execute(
        "select to_jsonb(u) ? 'country' from course.auth_user u"
    ).fetchone() == (False,)


@pytest.mark.newest("what we refuse; only it has columns that are generated when they are read")
def test_what_can_not_be_carried_is_refused_before_anything_is_changed(site: Site) -> None:
    add(site, "A")
    site.execute(
        "create type public.mood as enum ('fair');"
        " alter table public.auth_user add column mood public.mood,"
        " add column place regclass, add column needed text not null, add column live boolean,"
        " add column seen integer generated always as (length(username)) virtual,"
        " add column stored integer generated always as (length(username)) stored"
    )
    for column, cause in {
        "mood": "type public.mood isn't there",
        "place": "mean something in the portal's database only",
        "needed": "--scrub VALUE",
        "live": "rename it on the portal",
        "seen": "generated when it is read",
        "email": "is carried always",
        "absent": "name one of: mood, place, needed, live, seen, stored",
    }.items():
        refused = cli("column", "add", "auth_user", column, portal=site.portal)
        assert (refused.returncode, cause in refused.stderr) == (1, True), refused.stderr
    assert site.execute("select * from pysync.carried_column") == []
    ada = insert_user(site, "ada", needed="")
    enroll(site, ada, "A")
    succeed("column", "add", "auth_user", "stored", portal=site.portal)
    site.execute("update public.auth_user set username = 'ada lovelace'")
    clean(site, "A")
    assert values(site.course("A"), "course.auth_user", "stored") == {ada: "12"}
