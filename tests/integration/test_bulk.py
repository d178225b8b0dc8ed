"""Statements of many rows cost one set-based copy, and never wait for each other in a circle."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.integration.fan_out import App, application, await_lock, differences, names
from tests.support import Cluster, Site

pytestmark = pytest.mark.oldest_and_newest("planners differ most between these")

MANY = 20_000


def make_users(app: App, number: int) -> None:
    """Make users with ids from 1 on, in a physical order that isn't that of the ids."""
    app.execute(
        "insert into auth_user (id, username, password) overriding system value"
        " select id, 'user-' || id, '' from generate_series(%s, 1, -1) as id",
        number,
    )


def test_a_copy_of_many_enrollments_is_one_set_based_statement(app: App) -> None:
    site = app.site
    site.register_only("A")
    make_users(app, MANY)
    app.execute("insert into auth_userprofile (user_id) select id from auth_user where id % 2 = 0")
    # The calls are counted for superusers only.
    with site.connect() as connection, connection.transaction():
        connection.execute("set local track_functions = 'all'")
        with connection.cursor().copy(
            "copy student_courseenrollment (user_id, course_id) from stdin"
        ) as copy:
            for user in range(1, MANY + 1):
                copy.write_row((user, "A"))
        calls = dict(
            connection.execute(
                "select funcname, calls from pg_stat_xact_user_functions"
                " where schemaname in ('course', 'pysync')"
            ).fetchall()
        )
    assert calls["enrollment_inserted"] == calls["copy_members"] == 1
    assert sum(calls.values()) < 20
    assert differences(site) == []
    assert site.one("select count(*) from course.auth_user where live") == MANY
    assert site.one("select count(*) from course.auth_userprofile") == MANY / 2


@pytest.mark.newest("many users take long, and the newest planner tries the most")
@pytest.mark.parametrize(
    "statement",
    [
        "insert into student_courseenrollment (user_id, course_id) values (15000, 'B')",
        "insert into student_courseenrollment (user_id, course_id) values (20000, 'A')",
        "insert into auth_userprofile (user_id) values (15000)",
        "update student_courseenrollment set created = null where user_id = 15000",
        "update auth_user set email = '' where id = 15000",
        "update auth_user set username = 'renamed' where id = 15000",
        "update auth_userprofile set name = 'renamed' where user_id = 5000",
        "delete from student_courseenrollment where user_id = 15000",
        "delete from auth_userprofile where user_id = 5000",
        "delete from auth_user where id = 15000",
    ],
)
def test_a_change_of_one_row_reads_no_table_from_end_to_end(
    big_portal: psycopg.Connection[Any], statement: str
) -> None:
    read = (
        "select schemaname || '.' || relname, seq_tup_read from pg_stat_xact_user_tables"
        " where schemaname in ('public', 'course')"
    )
    with big_portal.transaction(force_rollback=True):
        before = dict(big_portal.execute(read).fetchall())
        big_portal.execute(statement)
        after = dict(big_portal.execute(read).fetchall())
    assert {table for table, rows in after.items() if rows - before.get(table, 0) > 1000} == set()


@pytest.fixture(scope="module")
def big_portal(
    portal_server: Cluster, course_server: Cluster, portal_template: str
) -> Iterator[psycopg.Connection[Any]]:
    """Many members of A; B has many frozen copies, and they come last in the tables."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    connection = site.connect()
    site.register_only("A", "B")
    with application(site) as app:
        make_users(app, MANY)
        app.execute(
            "insert into auth_userprofile (user_id) select id from auth_user where id <= 9999"
        )
        app.execute(ENROLL_IN.format("A", "asc") + f" limit {MANY - 1}")
        app.execute(ENROLL_IN.format("B", "asc") + " limit 4000")
        app.execute("delete from student_courseenrollment where course_id = 'B'")
        connection.execute("vacuum analyze")
        yield connection
    site.close()


@pytest.mark.newest("cached plans: takes long, and the newest planner tries the most")
def test_updates_of_many_enrollments_are_set_based_in_a_session_that_began_with_one(
    app: App,
) -> None:
    """Each with each takes minutes, the two sets seconds: the margin isn't about speed."""
    site = app.site
    site.register_only("A", "B")
    make_users(app, MANY)
    app.execute(ENROLL_IN.format("A", "asc"))
    app.execute("set statement_timeout = '20s'")
    for user in (1, MANY):
        app.execute("update student_courseenrollment set course_id = 'B' where user_id <= %s", user)
    assert differences(site) == []


ENROLL_IN = (
    "insert into student_courseenrollment (user_id, course_id)"
    " select id, '{}' from auth_user order by id {}"
)
UNENROLL = "delete from student_courseenrollment where course_id = 'C'"
UPDATE_PROFILES = "update auth_userprofile set name = 'new'"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(ENROLL_IN.format("A", "asc"), ENROLL_IN.format("B", "desc"), id="enroll"),
        pytest.param(ENROLL_IN.format("A", "asc"), UNENROLL, id="enroll-unenroll"),
        pytest.param(UNENROLL, ENROLL_IN.format("B", "desc"), id="unenroll-enroll"),
        pytest.param(UPDATE_PROFILES, ENROLL_IN.format("B", "asc"), id="profiles-enroll"),
    ],
)
def test_overlapping_bulk_statements_in_opposite_orders_do_not_deadlock(
    app: App, first: str, second: str
) -> None:
    site = app.site
    site.register_only("A", "B", "C")
    make_users(app, 100)
    app.execute(ENROLL_IN.format("C", "desc"))
    app.execute("insert into auth_userprofile (user_id) select id from auth_user order by id desc")
    middle, one, other = app.connect(), app.connect(), app.connect()
    middle.execute("begin")
    if first != UPDATE_PROFILES:
        middle.execute("update auth_user set email = 'held' where id = 50")
    middle.execute("update auth_userprofile set name = 'held' where user_id = 50")
    with ThreadPoolExecutor(2) as pool:
        # Both stop in the middle or before; who locked from the other end would now be waited for.
        futures = [pool.submit(one.execute, first)]
        await_lock(site, one.info.backend_pid)
        futures.append(pool.submit(other.execute, second))
        if first == UPDATE_PROFILES:
            futures[1].result(20)  # Who has profiles locked is in nobody's way.
        else:
            await_lock(site, other.info.backend_pid)
        middle.execute("commit")
        for future in futures:
            future.result(20)
    assert differences(site) == []


IN_THE_WAY = {
    "nothing": "",
    "one of them": """
        insert into student_courseenrollment (user_id, course_id) values (75, 'A');
        delete from student_courseenrollment""",
    "a name": """
        insert into student_courseenrollment (user_id, course_id) values (200, 'A');
        delete from student_courseenrollment;
        update auth_user set username = 'other' where id = 200;
        update auth_user set username = 'user-200' where id = 75""",
    "a profile": """
        insert into auth_userprofile (user_id) values (200);
        insert into student_courseenrollment (user_id, course_id) values (200, 'A');
        delete from student_courseenrollment;
        update auth_userprofile set user_id = 75""",
}


@pytest.mark.parametrize("in_the_way", IN_THE_WAY)
@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_many_enroll_whatever_is_in_the_way(app: App, in_the_way: str, level: str) -> None:
    site = app.site
    site.register_only("A")
    make_users(app, 200)
    for statement in filter(None, IN_THE_WAY[in_the_way].split(";")):
        app.execute(statement)
    app.execute(f"set default_transaction_isolation = '{level}'")
    app.execute(
        "insert into auth_userprofile (user_id) select id from auth_user where id % 2 = 0"
        " on conflict do nothing"
    )
    app.execute(ENROLL_IN.format("A", "desc") + " offset 50")
    assert differences(site) == []
    assert site.one("select count(*) from course.auth_user where live") == 150
    assert site.one("select count(*) from course.student_courseenrollment") == 150


def test_merge_carries_its_inserts_updates_and_deletes(app: App) -> None:
    site = app.site
    site.register_only("A", "B")
    make_users(app, 4)
    app.execute(
        "insert into student_courseenrollment (user_id, course_id)"
        " select id, 'A' from auth_user where id <= 3"
    )
    app.execute(
        "merge into student_courseenrollment as member"
        " using (values (1, 'leave'), (2, 'move'), (3, 'touch'), (4, 'join')) as task (id, action)"
        " on member.user_id = task.id"
        " when matched and action = 'leave' then delete"
        " when matched and action = 'move' then update set course_id = 'B'"
        " when matched then update set created = null"
        " when not matched then insert (user_id, course_id) values (task.id, 'A')"
    )
    assert names(site, "A").keys() == {1, 2, 3, 4}
    assert names(site, "B").keys() == {2}
    assert differences(site) == []


def test_merge_may_delete_an_enrollment_and_insert_it_anew(app: App) -> None:
    site = app.site
    site.register_only("A")
    make_users(app, 1)
    app.enroll(1, "A")
    app.execute(
        "merge into student_courseenrollment as member"
        " using (values (1, true), (1, false)) as task (id, old)"
        " on member.user_id = task.id and old"
        " when matched then delete"
        " when not matched then insert (user_id, course_id) values (task.id, 'A')"
    )
    assert differences(site) == []


@pytest.mark.parametrize("action", ["nothing", "update set created = excluded.created"])
def test_insert_on_conflict(app: App, action: str) -> None:
    site = app.site
    site.register_only("A")
    make_users(app, 3)
    app.enroll(1, "A")
    app.execute(
        "insert into student_courseenrollment (user_id, course_id, created)"
        " select id, 'A', '2012-09-01' from auth_user"
        f" on conflict (user_id, course_id) do {action}"
    )
    assert names(site, "A").keys() == {1, 2, 3}
    assert differences(site) == []


def test_update_of_many_rows(app: App) -> None:
    site = app.site
    site.register_only("A", "B")
    make_users(app, 50)
    for table in (
        "student_courseenrollment (course_id, user_id)",
        "auth_userprofile (name, user_id)",
    ):
        app.execute(f"insert into {table} select 'A', id from auth_user")
    app.execute("update auth_user set username = 'new-' || id, is_active = id % 2 = 0")
    app.execute("update auth_userprofile set goals = 'goal ' || id")
    app.execute("update student_courseenrollment set course_id = 'B' where user_id <= 20")
    app.execute("update student_courseenrollment set id = id + 1000 where user_id > 40")
    assert differences(site) == []
    assert site.one("select count(*) from course.auth_user where course_id = 'B'") == 20
    assert site.one("select count(*) from course.auth_user where not live") == 20


def test_delete_using(app: App) -> None:
    site = app.site
    site.register_only("A", "B")
    make_users(app, 10)
    for table in (
        "student_courseenrollment (course_id, user_id)",
        "auth_userprofile (name, user_id)",
    ):
        app.execute(f"insert into {table} select 'A', id from auth_user")
    app.execute(
        "delete from student_courseenrollment as member using auth_user"
        " where auth_user.id = user_id and auth_user.id <= 3"
    )
    app.execute(
        "delete from auth_userprofile as profile using auth_user"
        " where auth_user.id = user_id and auth_user.id between 2 and 5"
    )
    assert differences(site) == []
    assert site.one("select count(*) from course.student_courseenrollment") == 7
    assert site.one("select count(*) from course.auth_userprofile") == 8  # 2 and 3 were frozen


def test_one_statement_that_changes_user_and_enrollment(app: App) -> None:
    site = app.site
    site.register_only("A", "B")
    make_users(app, 1)
    app.execute(
        "with renamed as (update auth_user set username = 'renamed' returning id),"
        " profile as (insert into auth_userprofile (user_id) select id from renamed)"
        " insert into student_courseenrollment (user_id, course_id) select id, 'A' from renamed"
    )
    assert differences(site) == []
    app.execute(
        "with gone as (delete from student_courseenrollment returning user_id)"
        " insert into student_courseenrollment (user_id, course_id)"
        " select user_id, unnest(array['A', 'B']) from gone"
    )
    assert names(site, "B") == {1: "renamed"}
    assert differences(site) == []
