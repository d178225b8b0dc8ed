"""``pysync resync``: merged while both sides are in use, whatever happened to the slot before."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
import pytest

from tests.acceptance.test_cli_course_add import (
    assert_only_slot,
    enroll_users,
    start,
)
from tests.acceptance.test_cli_process import assert_refused, cli, courses_of, succeed
from tests.acceptance.test_cli_status import alter_subscription, replication_name, state_of
from tests.support import (
    Rows,
    Site,
    as_superuser,
    drop_slot,
    enroll,
    eventually,
    insert_user,
)

pytestmark = pytest.mark.oldest_and_newest("merging beside what the server does to a slot")

__all__ = ["start"]

PAUSE_SECONDS = 0.02
"""Of each application: some hundred statements a second, and others' tests go on."""

TABLES = ("auth_user", "auth_userprofile", "student_courseenrollment", "mark")


@contextmanager
def tampering(site: Site, course_id: str) -> Iterator[psycopg.Connection[Any]]:
    """Change a course behind replication's back."""
    with psycopg.connect(site.databases[course_id]) as connection:
        connection.execute("set session_replication_role = replica")
        yield connection


def assert_equal_to_the_fan_out(site: Site, course_id: str, *tables: str) -> None:
    """A course holds exactly the portal's rows for it, frozen ones included."""
    site.wait(course_id)
    course = site.course(course_id)
    for table in tables or TABLES:
        columns = ", ".join(
            name
            for (name,) in site.execute(
                "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
                " and attname not in ('live', 'position') order by attname",
                f"course.{table}",
            )
        )
        query = f"select {columns} from course.{table}"
        expected = site.execute(f"{query} where course_id = %s", course_id)
        found = course.execute(query).fetchall()
        assert sorted(found, key=repr) == sorted(expected, key=repr), table


def assert_sound(site: Site) -> None:
    """The course streams, with its own slot and no other."""
    site.wait("A")
    eventually(lambda: state_of(site, "A") == "streaming")
    assert_only_slot(site, replication_name(site, "A"))


def extend(site: Site, course_id: str) -> None:
    """Give a course what course sites have: columns of its own and tables that point at users."""
    site.course(course_id).execute("""
        alter table course.auth_user add column karma integer not null default 1;
        update course.auth_user set karma = id + 1000;
        create table public.post (id bigint primary key, author_id bigint not null
                                  references course.auth_user deferrable initially deferred,
                                  text text);
        insert into public.post select id, id, 'by ' || username from course.auth_user;
    """)


def damage(site: Site, course_id: str) -> None:
    """Wrong, missing and surplus rows, swapped usernames and profiles."""
    with tampering(site, course_id) as course:
        course.execute("update course.auth_user set email = 'wrong' where id % 7 = 1")
        # Everybody has somebody else's name, and profiles and enrollments have changed hands.
        course.execute("update course.auth_user set username = username || '!'")
        course.execute(
            "update course.auth_user set username = 'user' || (id % 40 + 1) where id <= 40"
        )
        for table in ("auth_userprofile", "student_courseenrollment"):
            course.execute(f"update course.{table} set user_id = user_id + 1000000 where id <= 40")
            course.execute(
                f"update course.{table} set user_id = (user_id + 1) % 40 + 1"
                " where user_id between 1000001 and 1000040"
            )
        course.execute(
            "delete from course.student_courseenrollment where id % 11 = 3;"
            "delete from course.auth_userprofile where id % 11 = 3;"
            "delete from public.post where author_id % 11 = 3;"
            "delete from course.auth_user where id % 11 = 3"
        )
        course.execute(
            "insert into course.auth_user (id, course_id, username, password, email)"
            " select n, %s, 'local' || n, '', 'private' from generate_series(900001, 900004) n",
            (course_id,),
        )
        course.execute(
            "insert into course.auth_userprofile (id, course_id, user_id, name)"
            " values (900001, %s, 900001, 'private')",
            (course_id,),
        )
        course.execute(
            "insert into public.post values (900001, 900001, 'local'), (900002, 900002, '')"
        )


def lose_slot(site: Site) -> None:
    alter_subscription(site, "A", "disable")
    with site.connect() as portal:
        drop_slot(portal, replication_name(site, "A"))
    enroll(site, insert_user(site, "missed"), "A")


class Applications:
    """The portal's applications write, the course's read, all the time."""

    def __init__(self, site: Site, course_id: str) -> None:
        self.site, self.course_id = site, course_id
        self.done = threading.Event()
        self.failures: list[BaseException] = []
        self.writes = self.reads = 0
        self.threads = [
            threading.Thread(target=self.run, args=(job,)) for job in (self.write, self.read)
        ]

    def run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as failure:  # noqa: BLE001 - the main thread raises it
            self.failures.append(failure)

    def write(self) -> None:
        with psycopg.connect(self.site.portal, autocommit=True) as portal:
            while not self.done.wait(PAUSE_SECONDS):
                n = self.writes = self.writes + 1
                portal.execute(
                    "with added as (insert into auth_user (username, password)"
                    " values (%s, '') returning id)"
                    " insert into auth_userprofile (user_id, name) select id, 'x' from added",
                    (f"late{n}",),
                )
                portal.execute(
                    "insert into student_courseenrollment (user_id, course_id)"
                    " select id, %s from auth_user where username = %s",
                    (self.course_id, f"late{n}"),
                )
                portal.execute(
                    "update auth_user set email = %s where id %% 50 = %s and id <= 1000",
                    (f"e{n}", n % 50),
                )
                if n % 3 == 0:
                    portal.execute(
                        "delete from student_courseenrollment where user_id ="
                        " (select id from auth_user where username = %s)",
                        (f"late{n // 2}",),
                    )
                if n % 10 == 0:
                    portal.execute("delete from auth_user where username = %s", (f"late{n // 3}",))

    def read(self) -> None:
        with psycopg.connect(self.site.databases[self.course_id], autocommit=True) as course:
            course.execute("set lock_timeout = '500ms'; set statement_timeout = '5s'")
            while not self.done.wait(PAUSE_SECONDS):
                self.reads += 1
                row = course.execute("select count(*) from auth_user where id <= 300").fetchone()
                assert row is not None
                assert row[0] > 200
                course.execute("select karma from auth_user where username = 'user7'").fetchone()

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        self.await_progress()
        return self

    def await_progress(self) -> None:
        before = self.writes, self.reads
        eventually(
            lambda: self.failures or (self.writes > before[0] + 5 and self.reads > before[1] + 5)
        )

    def __exit__(self, *_: object) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures


@pytest.fixture
def damaged(site: Site) -> Site:
    """A course with members, with columns and rows of its own, and with damage."""
    enroll_users(site, "A", 300)
    site.add("A")
    extend(site, "A")
    damage(site, "A")
    return site


def own_rows(site: Site) -> Rows:
    return (
        site.course("A")
        .execute(
            "select u.id, u.karma, p.text from auth_user u join public.post p on p.author_id = u.id"
            " where u.id <= 300 order by 1"
        )
        .fetchall()
    )


@pytest.mark.also_granted("the whole command")
def test_a_resync_under_constant_writes_mends_everything_and_spares_the_course(
    damaged: Site,
) -> None:
    site = damaged
    before = own_rows(site)
    with Applications(site, "A") as applications:
        result = cli("resync", "A", portal=site.portal)
        applications.await_progress()
    assert result.returncode == 0, result.stderr
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)
    assert own_rows(site) == before
    course = site.course("A")
    # Two of four local users are gone; two that posts point at are scrubbed, here and there alike.
    assert course.execute(
        "select id, username, email, is_active from auth_user where id > 900000 order by 1"
    ).fetchall() == [(n, f"deleted-{n}", "", False) for n in (900001, 900002)]
    assert course.execute("select count(*) from public.post where id > 900000").fetchone() == (2,)
    (users,) = [line.split() for line in result.stdout.splitlines() if " auth_user " in line]
    assert users[-2:] == ["2", "2"]
    assert result.stdout.endswith("course 'A' resynchronised\n")


@pytest.mark.newest("takes long")
@pytest.mark.timeout(300)
def test_thousands_of_users_are_resynchronised_under_constant_writes(site: Site) -> None:
    enroll_users(site, "A", 3_000)
    site.add("A")
    course = site.course("A")
    course.execute("alter table course.auth_user add column karma integer not null default 1")
    with tampering(site, "A") as tampered:
        tampered.execute(
            "update course.auth_user set karma = id + 1000;"
            "update course.auth_user set first_name = 'wrong' where id % 20 = 0;"
            "update course.auth_userprofile set goals = 'wrong' where id % 20 = 1;"
            "delete from course.student_courseenrollment where id % 20 = 2;"
            "insert into course.auth_user (id, course_id, username, password)"
            " select n, 'A', 'local' || n, '' from generate_series(900001, 900300) as n"
        )
    with Applications(site, "A") as applications:
        result = cli("resync", "A", portal=site.portal, timeout=120)
        assert result.returncode == 0, result.stderr
        applications.await_progress()
        verified = cli("verify", "A", portal=site.portal, timeout=120)
        assert verified.returncode == 0, verified.stdout
    assert course.execute(
        "select count(*) filter (where karma = id + 1000), count(*) from course.auth_user"
        " where username like 'user%'"
    ).fetchone() == (3_000, 3_000)
    assert_sound(site)


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_what_the_course_cannot_let_go_never_meets_who_comes_later(damaged: Site) -> None:
    """A user who gets the id or the name of a scrubbed row enrolls: replication goes on."""
    site = damaged
    succeed("resync", "A", portal=site.portal)
    enroll(site, insert_user(site, "deleted-900001"), "A")
    site.execute(
        "insert into auth_user (id, username, password) overriding system value"
        " values (900002, 'reborn', '')"
    )
    enroll(site, 900002, "A")
    assert_equal_to_the_fan_out(site, "A")


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_dry_run_counts_and_changes_nothing(damaged: Site) -> None:
    site = damaged
    query = "select id, username, email, xmin::text from course.auth_user order by 1"
    before = site.course("A").execute(query).fetchall()
    text = succeed("resync", "A", "--dry-run", portal=site.portal)
    assert "dry run: nothing was changed" in text
    assert "public.post" in text.replace('"', "")
    document = json.loads(
        succeed("resync", "A", "--dry-run", "--format", "json", portal=site.portal)
    )
    assert document["done"] is False
    found = {each["table"]: each for each in document["differences"]}
    assert found["auth_user"]["remove"] == found["auth_user"]["scrub"] == 2
    assert found["auth_user"]["insert"] == 28
    assert found["auth_user"]["update"] == 300 - 28
    assert found["auth_userprofile"]["remove"] == 1
    assert found["student_courseenrollment"]["insert"] == 28
    assert site.course("A").execute(query).fetchall() == before
    assert_only_slot(site, replication_name(site, "A"))
    # The truth about what is then done.
    done = json.loads(succeed("resync", "A", "--format", "json", portal=site.portal))
    for each in done["differences"]:
        if each["table"] == "auth_userprofile":
            assert each["insert"] == found["auth_userprofile"]["insert"]
            assert each["update"] == found["auth_userprofile"]["update"]
    again = json.loads(succeed("resync", "A", "--format", "json", portal=site.portal))
    assert all((each["insert"], each["remove"]) == (0, 0) for each in again["differences"])


@pytest.mark.also_granted("the whole command")
@pytest.mark.newest("a slot that is dropped is a fault, and mended on both ends as such")
def test_a_course_whose_slot_was_dropped_is_recovered(damaged: Site) -> None:
    site = damaged
    lose_slot(site)
    alter_subscription(site, "A", "enable")
    assert state_of(site, "A") == "lost"
    assert_refused(cli("course", "resume", "A", portal=site.portal), "lost its slot", "resync A")
    with Applications(site, "A"):
        succeed("resync", "A", portal=site.portal)
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)
    assert state_of(site, "A") == "streaming"


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_a_course_that_lost_its_subscription_as_well_is_recovered(damaged: Site) -> None:
    site = damaged
    name = replication_name(site, "A")
    for action in ("disable", "set (slot_name = none)"):
        alter_subscription(site, "A", action)
    site.course("A").execute(f"drop subscription {name}")
    refused = cli("course", "add", "A", site.databases["A"], portal=site.portal)
    assert_refused_last(refused, "lost its subscription", "pysync resync A")
    succeed("resync", "A", portal=site.portal)
    assert_equal_to_the_fan_out(site, "A")
    assert_sound(site)


def settings_of(site: Site) -> tuple[Any, ...]:
    """Return what is set on a course's subscription, and on its slot."""
    name = replication_name(site, "A")
    with psycopg.connect(as_superuser(site.databases["A"])) as course:
        (subscription,) = course.execute(
            "select to_jsonb(s) - '{oid, subowner, subskiplsn}'::text[] || to_jsonb(rolname)"
            " from pg_subscription s join pg_roles r on r.oid = subowner where subname = %s",
            (name,),
        ).fetchone() or (None,)
    query = (
        "select to_jsonb(s) ->> 'failover', two_phase"
        " from pg_replication_slots s where slot_name = %s"
    )
    return subscription, site.execute(query, name)


@pytest.mark.also_granted("the whole command")
@pytest.mark.oldest_and_newest("takes long; if both ends agree, those between do")
def test_a_course_that_is_ahead_of_a_restored_portal_is_brought_back(damaged: Site) -> None:
    """Positions of the portal as it was before mean nothing: they may lie far ahead.

    What was set on the subscription stays, whether it is kept or made anew.
    """
    site = damaged
    chosen = ["binary = true", "streaming = true", "disable_on_error = true"]
    chosen += ["synchronous_commit = local"]
    succeed("course", "pause", "A", portal=site.portal)
    if site.one("select to_jsonb(s) ? 'two_phase_at' from pg_replication_slots as s limit 1"):
        chosen += ["origin = none", "failover = true", "two_phase = true"]
    else:
        with psycopg.connect(as_superuser(site.databases["A"])) as course:
            # As it is made; no command alters it here.
            course.execute("set allow_system_table_mods = on")
            course.execute("update pg_subscription set subtwophasestate = 'p'")
    for each in chosen:
        alter_subscription(site, "A", f"set ({each})")
    succeed("course", "resume", "A", portal=site.portal)
    eventually(lambda: settings_of(site)[0][0]["subtwophasestate"] == "e")
    before = settings_of(site)
    assert before[1][0][1]
    succeed("resync", "A", portal=site.portal)
    assert settings_of(site) == before
    alter_subscription(site, "A", "disable")
    oid = site.course("A").execute("select oid from pg_subscription").fetchall()
    with psycopg.connect(as_superuser(site.databases["A"]), autocommit=True) as course:
        eventually(
            lambda: course.execute(
                "select pg_replication_origin_advance('pg_' || oid, '7FFF/0') from pg_subscription"
                " where subname = %s and not exists (select from pg_stat_subscription w"
                " where w.subid = pg_subscription.oid and w.pid is not null)",
                (replication_name(site, "A"),),
            ).fetchall()
        )
    succeed("resync", "A", portal=site.portal)
    enroll(site, insert_user(site, "afterwards"), "A")
    assert_equal_to_the_fan_out(site, "A")
    assert site.course("A").execute("select oid from pg_subscription").fetchall() != oid
    assert settings_of(site) == before


# One table


@pytest.mark.also_granted("the whole command")
@pytest.mark.newest("takes long; the merge of all tables is tested on both ends")
@pytest.mark.parametrize("table", TABLES[:2])
def test_one_table_is_mended_while_everything_streams(site: Site, table: str) -> None:
    enroll_users(site, "A", 300)
    site.add("A")
    site.course("A").execute("alter table course.auth_user add karma integer not null default 1")
    other = {"auth_userprofile": "student_courseenrollment"}.get(table, "auth_userprofile")
    with tampering(site, "A") as course:
        for damaged in (table, other):
            course.execute(f"delete from course.{damaged} where id % 11 = 3")
        if table == "auth_user":
            course.execute("update course.auth_user set first_name = 'wrong' where id % 50 = 49")
        else:
            course.execute(f"update course.{table} set user_id = user_id + 5000 where id % 7 = 1")
    with Applications(site, "A") as applications:
        succeed("resync", "A", "--table", table, portal=site.portal)
        applications.await_progress()
    if table == "auth_user":
        # Who was deleted above, and updated since, can't have been inserted a second time.
        assert site.course("A").execute(
            "select count(*) from course.auth_user where id <= 300 and first_name = ''"
        ).fetchone() == (300,)
    assert site.course("A").execute(
        f"select count(*) from course.{other} where id <= 300 and id % 11 = 3"
    ).fetchone() == (0,)
    assert_equal_to_the_fan_out(site, "A", table, "mark")
    told = courses_of("status", "A", portal=site.portal)["A"]
    # The other table still lacks rows that applications may have changed meanwhile.
    assert told["state"] == "streaming" or "met no row" in told["cause"], told


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_one_table_is_refused_where_only_the_whole_will_do(damaged: Site) -> None:
    site = damaged
    assert_refused_last(
        cli("resync", "A", "--table", "auth_user", portal=site.portal), "point at", "whole course"
    )
    assert state_of(site, "A") == "streaming"
    alter_subscription(site, "A", "disable")
    with site.connect() as portal:
        drop_slot(portal, replication_name(site, "A"))
    assert courses_of("status", portal=site.portal)["A"]["state"] == "lost"


def assert_refused_last(result: Any, *words: str) -> None:
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr[result.stderr.rindex("pysync: ") :]
    for word in words:
        assert word in last, last


@pytest.mark.newest("what the command line makes of its input, whatever the server")
def test_courses_that_are_not_there_are_named(site: Site) -> None:
    assert_refused(cli("resync", "A", portal=site.portal), "course 'A' is not registered")
