"""``pysync course add --adopt``: a course site with users that an older mechanism brought."""

from __future__ import annotations

import json
import signal
from typing import Any

import psycopg
import pytest

from tests.acceptance.test_cli_course_add import (
    Start,
    await_blocked,
    await_no_slot,
    enroll_users,
    start,
)
from tests.acceptance.test_cli_process import assert_refused, cli, courses_of, footprint, succeed
from tests.acceptance.test_cli_resync import assert_equal_to_the_fan_out
from tests.django_site.process import new_site
from tests.support import Cluster, Site, assert_live_rows, enroll, insert_user

pytestmark = pytest.mark.newest("the order of our own steps; first copies are tested on both ends")

__all__ = ["start"]

OLD_USERS = """
insert into public.auth_user (id, username, password, is_superuser, first_name, last_name, email,
                              is_staff, is_active, date_joined, reputation)
select n, case when n = 5 then 'user6' when n = 6 then 'user5' else 'user' || n end, 'old', false,
       '', '', 'old@example.org', false, true, '2012-01-01', 100 + n
  from generate_series(3, 20) as n;
insert into public.auth_user (id, username, password, is_superuser, first_name, last_name, email,
                              is_staff, is_active, date_joined, reputation)
values (101, 'gone', 'x', false, 'Ada', 'L', 'ada@example.org', false, true, now(), 7),
       (102, 'gone too', 'x', false, '', '', '', false, true, now(), 8),
       (103, 'user1', 'x', false, '', '', '', false, true, now(), 9);
insert into public.auth_userprofile (id, user_id, name, meta, courseware, language, location)
select n, case n when 5 then 6 when 6 then 5 else n end, 'old', '', '', '', ''
  from generate_series(3, 20) as n;
insert into public.student_courseenrollment (user_id, course_id)
select n, case when n % 2 = 0 then 'A' else 'other' end from generate_series(3, 20) as n;
insert into public.forum_post (text, author_id) values ('mine', 5), ('hers', 101), ('his', 103);
"""


@pytest.fixture
def old_site(site: Site, course_server: Cluster) -> str:
    """A course site that has been in use, with wrong, swapped, missing and surplus rows."""
    enroll_users(site, "A", 20)
    database = site.new_database(template=new_site(course_server, forum=True))
    site.databases["A"] = database
    with psycopg.connect(database) as connection:
        connection.execute(OLD_USERS.encode())
    return database


def rows(conninfo: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.mark.also_granted("the whole command")
def test_a_course_site_with_users_is_adopted_after_a_dry_run(site: Site, old_site: str) -> None:
    before = footprint(site.portal, old_site), rows(old_site, "select * from auth_user order by 1")
    assert_refused_at_the_end(cli("course", "add", "A", old_site, portal=site.portal), "--adopt")
    text = succeed("course", "add", "A", old_site, "--adopt", portal=site.portal)
    assert "nothing was changed" in text
    assert "public.forum_post: 2 rows point at rows of auth_user that are scrubbed" in (
        text.replace('"', "")
    )
    assert "1 users have the name of a portal user with another id" in text
    assert "public.auth_user: becomes pysync's" in text
    kept = succeed("course", "add", "A", old_site, "--adopt", "--keep-owner", portal=site.portal)
    assert "becomes pysync's" not in kept
    plan = json.loads(
        succeed("course", "add", "A", old_site, "--adopt", "--format", "json", portal=site.portal)
    )
    found = {each.pop("table"): tuple(each.values()) for each in plan["differences"]}
    assert found["auth_user"] == (2, 18, 1, 2)
    assert found["auth_userprofile"] == (2, 18, 0, 0)
    # The site gave its own ids to enrollments.
    assert sum(found["student_courseenrollment"]) >= 20
    assert (
        footprint(site.portal, old_site),
        rows(old_site, "select * from auth_user order by 1"),
    ) == before

    added = succeed("course", "add", "A", old_site, "--adopt", "--yes", portal=site.portal)
    assert added == "course 'A' added: 22 users there\n"
    assert_equal_to_the_fan_out(site, "A")
    assert_live_rows(site, "A")
    assert rows(
        old_site, "select id, reputation from auth_user where id in (3, 5, 20) order by 1"
    ) == [
        (3, 103),
        (5, 105),
        (20, 120),
    ]
    assert rows(
        old_site,
        "select p.text, u.username, u.email from public.forum_post p"
        " join auth_user u on u.id = p.author_id order by 1",
    ) == [("hers", "deleted-101", ""), ("his", "deleted-103", ""), ("mine", "user5", "")]
    assert courses_of("status", portal=site.portal)["A"]["state"] == "streaming"
    enroll(site, insert_user(site, "later"), "A")
    assert_equal_to_the_fan_out(site, "A")
    with psycopg.connect(old_site) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute("update auth_user set email = 'x'")
    assert refused.value.sqlstate == "PY002"


def test_an_adoption_that_is_killed_is_finished_by_the_same_command(
    site: Site, old_site: str, start: Start
) -> None:
    application = site.connect()
    application.execute("begin")
    application.execute("insert into auth_user (username, password) values ('held', '')")
    process = start("course", "add", "A", old_site, "--adopt", "--yes")
    # Its temporary slot waits for the transaction; the database is migrated and registered.
    await_blocked(site, "CREATE_REPLICATION_SLOT")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    application.execute("commit")
    await_no_slot(site)
    # Nor does the command without --adopt empty the tables then: it goes on as it was begun.
    succeed("course", "add", "A", old_site, portal=site.portal)
    assert_equal_to_the_fan_out(site, "A")
    assert rows(old_site, "select reputation from auth_user where id = 3") == [(103,)]


def test_a_site_that_has_users_only_gets_the_other_tables(
    site: Site, old_site: str, course_server: Cluster
) -> None:
    with psycopg.connect(old_site) as connection:
        connection.execute("drop table auth_userprofile, student_courseenrollment")
        connection.execute("alter table auth_user drop column last_login")
    plan = json.loads(
        succeed("course", "add", "A", old_site, "--adopt", "--format", "json", portal=site.portal)
    )
    inserts = {each["table"]: each["insert"] for each in plan["differences"]}
    assert inserts == {"auth_user": 2, "auth_userprofile": 20, "student_courseenrollment": 20}
    succeed("course", "add", "A", old_site, "--adopt", "--yes", portal=site.portal)
    assert_equal_to_the_fan_out(site, "A")


def test_a_removed_course_comes_back_in_its_old_database(site: Site) -> None:
    enroll_users(site, "A", 5)
    site.add("A")
    database = site.databases["A"]
    succeed("course", "remove", "A", "--yes", portal=site.portal)
    site.execute("update auth_user set email = 'new' where id = 1")
    rows_before = rows(database, "select count(*) from course.auth_user")
    assert rows_before == [(5,)]
    assert_refused(
        cli("course", "add", "A", database, portal=site.portal), "holds users", "--adopt"
    )
    succeed("course", "add", "A", database, "--adopt", "--yes", portal=site.portal)
    assert_equal_to_the_fan_out(site, "A")
    with psycopg.connect(database) as connection, pytest.raises(psycopg.Error):
        connection.execute("delete from course.auth_user")


def assert_refused_at_the_end(result: Any, *words: str) -> None:
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    told = result.stderr[result.stderr.rindex("pysync: ") :]
    for word in words:
        assert word in told
