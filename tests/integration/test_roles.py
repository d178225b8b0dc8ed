"""Enrolling gives users their role in the course's discussions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pysync.db.sessions import portal_session
from pysync.models.accounts import Role
from pysync.students import roles
from tests.integration.fan_out import App, await_lock, differences
from tests.integration.test_accounts import in_background
from tests.support import Rows

pytestmark = pytest.mark.oldest_and_newest(
    "SQL on ordinary tables: what the oldest and the newest agree on, those between do as well"
)

ROLES = """
select role.course_id, role.name, array_agg(member.user_id order by member.user_id)
  from public.django_comment_client_role as role
  join public.django_comment_client_role_users as member on member.role_id = role.id
 group by role.id
 order by 1, 2
"""


def found(app: App) -> Rows:
    return app.site.execute(ROLES)


def test_enrolling_gives_the_courses_role(app: App) -> None:
    """Rights on the roles aren't needed, nor is the course's registration."""
    app.site.register_only("A")
    ada, bob = app.user("ada", is_staff=True), app.user("bob")
    app.enroll(ada, "A", "default")
    app.enroll(bob, "A", "B")
    assert found(app) == [
        ("A", "Moderator", [ada]),
        ("A", "Student", [bob]),
        ("B", "Student", [bob]),
        ("default", "Moderator", [ada]),
    ]
    assert differences(app.site) == []
    # As ever: what somebody was given stays, and enrolling again gives what is due now.
    app.unenroll(bob, "A")
    app.execute("update auth_user set is_staff = true where id = %s", bob)
    app.enroll(bob, "A")
    assert found(app)[:2] == [("A", "Moderator", [ada, bob]), ("A", "Student", [bob])]


def test_roles_and_members_that_are_there_are_used(app: App) -> None:
    ada, bob = app.user("ada"), app.user("bob")
    app.site.execute(
        "with made as (insert into django_comment_client_role (course_id, name)"
        " values ('A', 'Student'), ('A', 'Administrator'), ('B', 'Moderator') returning *)"
        " insert into django_comment_client_role_users (role_id, user_id)"
        " select id, %s from made where name = 'Student'",
        ada,
    )
    app.enroll(ada, "A", "B")
    app.enroll(bob, "A")
    assert found(app) == [("A", "Student", [ada, bob]), ("B", "Student", [ada])]
    assert app.site.one("select count(*) from django_comment_client_role") == 4


def test_an_enrollment_that_moves_gives_the_role_there_and_takes_none(app: App) -> None:
    ada, bob = app.user("ada"), app.user("bob", is_staff=True)
    app.enroll(ada, "A")
    app.execute("update student_courseenrollment set course_id = 'B'")
    app.execute("update student_courseenrollment set user_id = %s", bob)
    assert found(app) == [
        ("A", "Student", [ada]),
        ("B", "Moderator", [bob]),
        ("B", "Student", [ada]),
    ]
    app.site.execute("delete from django_comment_client_role")
    app.execute("update student_courseenrollment set created = null, course_id = course_id")
    assert app.site.one("select count(*) from django_comment_client_role") == 0


def test_a_user_may_come_after_the_enrollment(app: App) -> None:
    """Foreign keys are checked at commit; the course isn't registered."""
    with app.connect().transaction() as transaction:
        transaction.connection.execute(
            "insert into student_courseenrollment (user_id, course_id) values (7, 'A')"
        )
        transaction.connection.execute(
            "insert into auth_user (id, username, password) overriding system value"
            " values (7, 'ada', '')"
        )
    assert found(app) == [("A", "Student", [7])]


@pytest.mark.newest("takes long, and the newest planner tries the most")
def test_a_copy_of_100000_rows_is_one_set(app: App) -> None:
    # What the session plans now holds for a table that is known to have one row.
    first = app.user("first")
    with app.site.connect() as administrator:
        administrator.execute("vacuum analyze auth_user")
    app.enroll(first, "first")
    app.execute("set statement_timeout = '60s'")
    app.execute(
        "insert into auth_user (username, password, is_staff)"
        " select 'user' || n, '', n % 4 = 0 from generate_series(1, 25000) as n"
    )
    with (
        app.connection.cursor() as cursor,
        cursor.copy("copy student_courseenrollment (user_id, course_id) from stdin") as copy,
    ):
        for user in range(first + 1, first + 25001):
            for course in "ABCD":
                copy.write_row((user, course))
    assert app.site.execute(
        "select role.course_id, role.name, count(*) from django_comment_client_role as role"
        " join django_comment_client_role_users as member on member.role_id = role.id"
        " join auth_user on auth_user.id = member.user_id"
        " and auth_user.is_staff = (role.name = 'Moderator') where role.course_id <> 'first'"
        " group by role.id order by 1, 2"
    ) == [
        (course, name, count)
        for course in "ABCD"
        for name, count in (("Moderator", 6250), ("Student", 18750))
    ]


def test_bulk_enrollments_into_the_same_new_courses_wait_for_each_other_in_one_order(
    app: App,
) -> None:
    users = [app.user("ada"), app.user("bob", is_staff=True), app.user("cleo")]
    enroll = (
        "insert into student_courseenrollment (user_id, course_id)"
        " select {}, course from unnest(%s::text[]) as course"
    )
    first, second = app.connect(), app.connect()
    first.autocommit = second.autocommit = False
    first.execute(enroll.format(users[0]), (["C", "A", "B"],))
    with ThreadPoolExecutor() as pool:
        other = in_background(
            pool, (second,), (enroll.format(f"unnest(array{users[1:]})"), ["B", "C", "A"])
        )
        await_lock(app.site, second.info.backend_pid)
        first.commit()
        other.result(timeout=20)
    assert found(app) == [
        entry
        for course in "ABC"
        for entry in (
            (course, "Moderator", [users[1]]),
            (course, "Student", [users[0], users[2]]),
        )
    ]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize("registered", [True, False], ids=["registered", "unregistered"])
def test_a_role_newer_than_the_snapshot_is_an_error_rather_than_a_gap(
    app: App, level: str, registered: bool
) -> None:
    if registered:
        app.site.register_only("A")
    ada, bob = app.user("ada"), app.user("bob")
    old = app.connect()
    old.autocommit = False
    old.execute(f"set transaction isolation level {level}")
    old.execute("select from auth_user")
    app.enroll(ada, "A")
    enroll = "insert into student_courseenrollment (user_id, course_id) values (%s, 'A')"
    with pytest.raises(psycopg.errors.SerializationFailure):
        old.execute(enroll, (bob,))
    old.rollback()
    old.execute(f"set transaction isolation level {level}")
    old.execute(enroll, (bob,))
    old.commit()
    assert found(app) == [("A", "Student", [ada, bob])]


@pytest.mark.newest("Python's part, on SQL that is tested beside it")
def test_python_reads_and_writes_roles(app: App) -> None:
    ada, bob = app.user("ada"), app.user("bob", is_staff=True)
    app.enroll(ada, "A", "B")
    app.enroll(bob, "A")
    with portal_session(app.site.portal) as session:
        assert roles.roles_of(session, ada) == [("A", "Student"), ("B", "Student")]
        assert roles.role_members(session, "A", "Moderator") == ["bob"]
        assert roles.role_members(session, "C", "Moderator") == []
        role = session.query(Role).filter_by(course_id="A", name="Moderator").one()
        role.users.extend(session.query(Role).filter_by(course_id="A", name="Student").one().users)
    with portal_session(app.site.portal) as session:
        assert roles.role_members(session, "A", "Moderator") == ["ada", "bob"]


def test_an_applications_trigger_on_the_roles_never_runs_as_a_superuser(own_app: App) -> None:
    app, site = own_app, own_app.site
    tables = ("django_comment_client_role", "django_comment_client_role_users")
    site.execute(f"grant create on schema public to {app.role}")
    app.execute("create table noted (who text, privileged boolean)")
    app.execute("grant insert on noted to public")
    app.execute(
        "create function intruder() returns trigger language plpgsql as $$ begin"
        " insert into public.noted select current_user, rolsuper from pg_roles"
        " where rolname = current_user; return new; end $$"
    )
    for table in tables:
        site.execute(f"alter table {table} owner to {app.role}")
        app.execute(
            f"create trigger intruder before insert on {table}"
            " for each row execute function intruder()"
        )
    app.enroll(app.user("ada"), "A")
    app.execute("update student_courseenrollment set course_id = 'B'")
    assert app.execute("select distinct who, privileged from noted") == [("pysync_fan_out", False)]
    assert app.one("select count(*) from noted") == 4
