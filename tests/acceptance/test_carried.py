"""What becomes of carried columns: altered on the portal, there before in a course, guarded."""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.acceptance.test_cli_process import cli, read_json, succeed
from tests.acceptance.test_columns import clean, values
from tests.acceptance.test_relays import add, add_relay, states
from tests.support import Site, as_superuser, enroll, eventually, insert_user, unenroll

pytestmark = pytest.mark.oldest_and_newest("what types, subscriptions and workers are like")


def has_failed(database: psycopg.Connection[Any]) -> bool:
    query = "select from pg_stat_subscription_stats where apply_error_count > 0"
    return database.execute(query).fetchone() is not None


@pytest.mark.newest("what plans do as types change is tried on both ends where triggers are")
def test_a_type_that_changes_on_the_portal_is_carried(site: Site) -> None:
    """Also if a value that doesn't fit a course's type was written, for which that course waits."""
    add_relay(site)
    add(site, "A")
    add(site, "B", "north")
    site.execute(
        "alter table public.auth_user add column short varchar(2) not null default 'zz',"
        " add column counted integer; alter table public.auth_userprofile add column size integer"
    )
    ada, bob = insert_user(site, "ada", counted=1), insert_user(site, "bob", counted=2)
    site.execute("insert into auth_userprofile (user_id, size) values (%s, 1)", ada)
    for course in "AB":
        enroll(site, ada, course)
        enroll(site, bob, course)
    for table, column in (
        ("auth_user", "short"),
        ("auth_user", "counted"),
        ("auth_userprofile", "size"),
    ):
        succeed("column", "add", table, column, portal=site.portal)
    unenroll(site, bob, "A")
    site.execute(
        "alter table public.auth_user alter short type varchar(20), alter short drop not null,"
        " alter counted type bigint; alter table public.auth_userprofile alter size type text"
    )
    site.wait("A", "B")
    assert set(states(site).values()) == {"drifted"}
    site.execute(
        "update auth_user set short = 'longer', counted = 1::bigint << 40 where id = %s", ada
    )
    site.execute("update auth_user set short = null where id = %s", bob)
    site.execute("update auth_userprofile set size = 'large'")
    for course in "AB":
        database = site.course(course)
        eventually(partial(has_failed, database))
    for each in read_json("status", portal=site.portal)["courses"]:
        assert each["state"] in ("drifted", "stuck"), each
        assert each["commands"] == ["pysync migrate"], each
    succeed("migrate", portal=site.portal)
    clean(site, "A", "B")
    assert set(states(site).values()) == {"streaming"}
    for course in "AB":
        assert values(site.course(course), "course.auth_user", "short")[ada] == "longer"
        assert values(site.course(course), "course.auth_userprofile", "size") == {1: "large"}
    assert values(site.course("A"), "course.auth_user", "counted")[bob] == "2"
    # What the statement itself makes of values no trigger sees.
    site.execute("alter table public.auth_user alter counted type text using 'n' || counted")
    assert set(states(site).values()) == {"drifted"}
    succeed("migrate", portal=site.portal)
    clean(site, "A", "B")
    for course in "AB":
        assert values(site.course(course), "course.auth_user", "counted")[ada] == "n1099511627776"
    # Another column of the same name has nothing to do with what is there.
    site.execute(
        "alter table public.auth_user drop column short,"
        " add column short jsonb default '{}' not null"
    )
    refused = cli("migrate", portal=site.portal)
    assert refused.returncode == 1
    assert "aren't the same as jsonb" in refused.stderr
    for command in ("remove", "--drop"), ("add",):
        succeed("column", *command, "auth_user", "short", portal=site.portal)
    clean(site, "A", "B")
    assert set(states(site).values()) == {"streaming"}
    for course in "AB":
        assert values(site.course(course), "course.auth_user", "short")[ada] == "{}"


@pytest.mark.newest("what is refused and taken over is ours")
def test_a_course_that_has_such_a_column_already(site: Site) -> None:
    """Another type is refused before anything is changed; its own values stay until the portal's come."""
    add(site, "A")
    add(site, "B")
    site.execute(
        "alter table public.auth_user add column country varchar(10) not null default 'zz'"
    )
    ada, bob = insert_user(site, "ada", country="de"), insert_user(site, "bob", country="fr")
    for user in (ada, bob):
        enroll(site, user, "A")
        enroll(site, user, "B")
    unenroll(site, bob, "A")
    site.wait("A", "B")
    site.course("A").execute("alter table auth_user add column country integer")
    ours = ("column", "add", "auth_user", "country")
    for options, told in (((), "one of its own"), (("--take-over",), "one of type integer")):
        done = cli(*ours, *options, portal=site.portal)
        assert done.returncode == 1
        for each in ("course 'A'", told, "nothing was changed"):
            assert each in done.stderr
    assert site.one("select count(*) from pysync.carried_column") == 0
    site.course("A").execute("alter table auth_user alter country type varchar(10)")
    site.course("A").execute("update auth_user set country = 'own' || id")
    site.course("A").execute("create view mine as select country from auth_user")
    succeed(*ours, "--take-over", portal=site.portal)
    clean(site, "A", "B")
    assert read_json("status", portal=site.portal)["carried"] == ["auth_user.country"]
    assert "own: auth_user.country" in succeed("status", portal=site.portal)
    # The portal doesn't say what it was for who had left.
    assert values(site.course("A"), "course.auth_user", "country") == {ada: "de", bob: "zz"}
    with pytest.raises(psycopg.Error) as refused:
        site.course("A").execute("update auth_user set country = 'x'")
    assert (refused.value.sqlstate, refused.value.diag.column_name) == ("PY002", "country")
    # Removed, it is the course's own once more: `--drop` drops what pysync made only.
    succeed("column", "remove", "auth_user", "country", "--drop", portal=site.portal)
    clean(site, "A", "B")
    site.course("A").execute("update auth_user set country = 'x'")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        site.course("B").execute("select country from auth_user")
    assert set(states(site).values()) == {"streaming"}


@pytest.mark.granted("who may read and write what is carried")
@pytest.mark.every_major("roles and their rights")
def test_every_command_knows_it(site: Site) -> None:
    """Added, resynchronised, erased, removed and adopted again: without a superuser."""
    add(site, "A")
    alter = "alter table public.auth_user add column {} varchar(9) default 'zz'"
    owner = psycopg.connect(as_superuser(site.portal), autocommit=True)
    owner.execute(sql.SQL(alter).format(sql.Identifier("order")))
    ada, bob = insert_user(site, "ada", order="1"), insert_user(site, "bob", order="2")
    for course in "AB":
        enroll(site, ada, course)
        enroll(site, bob, course)
    succeed("column", "add", "auth_user", "order", portal=site.portal)
    add(site, "B")
    site.execute('update auth_user set "order" = \'n\' || "order"')
    unenroll(site, bob, "B")
    succeed("resync", "A", "--table", "auth_user", portal=site.portal)
    succeed("resync", "B", portal=site.portal)
    succeed("migrate", "--reinstall", portal=site.portal)
    clean(site, "A", "B")
    for course in "AB":
        found = values(site.course(course), "course.auth_user", "order")
        assert found == {ada: "n1", bob: "n2"}
    assert "B: confirmed" in succeed("erase", "bob", "--yes", portal=site.portal)
    for course in "AB":
        assert values(site.course(course), "course.auth_user", "order")[bob] is None
    succeed("course", "remove", "B", "--yes", portal=site.portal)
    site.course("B").execute("update auth_user set \"order\" = 'own'")
    succeed("course", "add", "B", site.databases["B"], "--adopt", "--yes", portal=site.portal)
    clean(site, "A", "B")
    assert values(site.course("B"), "course.auth_user", "order")[ada] == "n1"
    assert set(states(site).values()) == {"streaming"}
    assert read_json("column", "list", portal=site.portal)["columns"] == [
        {
            "table": "auth_user",
            "column": "order",
            "type": "character varying(9)",
            "state": "yes",
            "scrub": None,
        }
    ]
    owner.close()
