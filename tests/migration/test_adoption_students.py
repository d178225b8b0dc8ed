"""Student tables that Django made get what Django kept to itself: cascades, defaults, checks."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pysync.errors import AdoptionError, LockedError, PysyncError
from pysync.migrate.lineage import PORTAL
from pysync.migrate.validate import MAX_ROWS, Check, validate
from tests.django_site.process import new_site
from tests.migration.catalog import catalog, difference
from tests.migration.conftest import NewDatabase, run
from tests.support import Cluster

pytestmark = pytest.mark.newest(
    "how servers spell definitions is compared on both ends with the portal's other tables"
)

USER = (
    "insert into auth_user (id, username, password, is_superuser, first_name, last_name, email,"
    " is_staff, is_active, date_joined)"
    " values ({0}, 'user{0}', '', false, '', '', '', false, true, now());"
)
ACCOUNT = """
insert into auth_userprofile (user_id, name, meta, courseware, language, location, gender)
values ({0}, '', '', '', '', '', 'f');
insert into student_courseenrollment (user_id, course_id) values ({0}, 'A');
insert into auth_registration (user_id, activation_key) values ({0}, md5('{0}'));
insert into student_pendingnamechange (user_id, new_name, rationale) values ({0}, 'New', '');
insert into student_pendingemailchange (user_id, new_email, activation_key)
values ({0}, 'new@example.org', md5('{0}'));
insert into student_usertestgroup (id, name, description) values (10 * {0}, 'group{0}', '');
insert into student_usertestgroup_users (usertestgroup_id, user_id) values (10 * {0}, {0});
insert into django_comment_client_role (id, name, course_id) values (10 * {0}, 'Critic', '{0}');
insert into django_comment_client_role_users (role_id, user_id) values (10 * {0}, {0});
"""
DEPENDANTS = (
    "auth_userprofile",
    "student_courseenrollment",
    "auth_registration",
    "student_pendingnamechange",
    "student_pendingemailchange",
    "student_usertestgroup_users",
    "django_comment_client_role_users",
)


def execute(conninfo: str, statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statements.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def portal(new_database: NewDatabase, course_server: Cluster) -> str:
    """A Django site's database with two accounts in it."""
    conninfo = new_database(template=new_site(course_server))
    execute(conninfo, "".join((USER + ACCOUNT).format(user) for user in (1, 2)))
    return conninfo


@pytest.mark.parametrize("origin", ["empty", "Django's"])
def test_deleting_a_user_by_plain_sql_takes_dependants_along(
    new_database: NewDatabase, course_server: Cluster, origin: str
) -> None:
    template = new_site(course_server) if origin == "Django's" else None
    portal = new_database(template=template)
    if template:
        execute(portal, "".join((USER + ACCOUNT).format(user) for user in (1, 2)))
        run(portal, PORTAL)
    else:
        run(portal, PORTAL)
        execute(portal, "".join((USER + ACCOUNT).format(user) for user in (1, 2)))
    execute(portal, "delete from auth_user where id = 1")
    for table in DEPENDANTS:
        assert set(execute(portal, f"select user_id from {table}")) == {(2,)}, table
    execute(portal, "delete from student_usertestgroup; delete from django_comment_client_role")
    for table in DEPENDANTS[-2:]:
        assert execute(portal, f"select user_id from {table}") == []


def test_before_and_after_pysync_deleting_is_djangos_business(portal: str) -> None:
    before = catalog(portal)
    delete = "delete from auth_user where id = 1"
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        execute(portal, delete)
    run(portal, PORTAL)
    run(portal, PORTAL, "base")
    assert difference(before, catalog(portal)) == {}
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        execute(portal, delete)


def test_plain_sql_may_leave_out_what_django_fills_in(portal: str) -> None:
    run(portal, PORTAL)
    execute(
        portal,
        """
        insert into auth_user (id, username, password) values (3, 'cleo', '');
        insert into auth_userprofile (user_id) values (3);
        insert into student_courseenrollment (user_id, course_id) values (3, 'A');
        insert into student_pendingnamechange (user_id, new_name) values (3, 'Cleo');
        insert into student_usertestgroup (name) values ('friends');
        insert into django_comment_client_role (name) values ('Student');
        """,
    )
    assert execute(
        portal,
        "select is_active, is_staff, courseware, created > now() - interval '1 minute'"
        "  from auth_user join auth_userprofile as p on p.user_id = auth_user.id"
        "  join student_courseenrollment as e on e.user_id = auth_user.id"
        " where auth_user.id = 3",
    ) == [(True, False, "course.xml", True)]


def test_down_and_up_again_changes_nothing(portal: str) -> None:
    once = catalog(portal)
    run(portal, PORTAL)
    migrated = catalog(portal)
    run(portal, PORTAL, "base")
    run(portal, PORTAL)
    assert difference(migrated, catalog(portal)) == {}
    run(portal, PORTAL, "base")
    assert difference(once, catalog(portal)) == {}


def test_ids_may_be_serials_as_in_2012(portal: str) -> None:
    """Enrolling writes roles as pysync_fan_out, who then needs the sequences."""
    for table in ("django_comment_client_role", "django_comment_client_role_users"):
        execute(
            portal,
            f"alter table {table} alter id drop identity;"
            f"create sequence {table}_id_seq start 100 owned by {table}.id;"
            f"alter table {table} alter id set default nextval('{table}_id_seq')",
        )
    before = catalog(portal)
    run(portal, PORTAL)
    execute(portal, "insert into student_courseenrollment (user_id, course_id) values (1, 'B')")
    assert execute(
        portal,
        "select role_id, user_id from django_comment_client_role_users"
        " join django_comment_client_role as role on role.id = role_id where course_id = 'B'",
    ) == [(100, 1)]
    run(portal, PORTAL, "base")
    assert difference(before, catalog(portal)) == {}


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "insert into student_usertestgroup (name, description)"
            " values ('group2', ''), ('group1', ''), ('group2', '')",
            "'public.student_usertestgroup' can't be adopted: Key (name)=(group1) is duplicated."
            " Key (name)=(group2) is duplicated.",
        ),
        (
            "insert into django_comment_client_role (name, course_id) values ('Critic', '1')",
            "'public.django_comment_client_role' can't be adopted:"
            " Key (course_id, name)=(1, Critic) is duplicated",
        ),
        (
            "alter table student_usertestgroup alter description drop not null;"
            "update student_usertestgroup set description = null",
            "'public.student_usertestgroup' column 'description' can't be adopted: found nullable,"
            " with nulls in it, expected NOT NULL",
        ),
        (
            "alter table auth_registration drop activation_key",
            "'public.auth_registration' column 'activation_key' can't be adopted: found no such"
            " column, expected character varying(32) NOT NULL",
        ),
    ],
    ids=["groups of one name", "roles of one name", "nulls", "no key"],
)
def test_what_can_not_be_told_apart_is_refused(portal: str, statement: str, message: str) -> None:
    execute(portal, statement)
    before = catalog(portal)
    with pytest.raises(AdoptionError) as caught:
        run(portal, PORTAL)
    assert message in caught.value.message
    assert caught.value.remedy
    assert difference(before, catalog(portal)) == {}


def ours(checks: list[Check]) -> dict[str, Check]:
    return {each.constraint: each for each in checks if each.table in ADOPTED_CHECKS.values()}


ADOPTED_CHECKS = {
    "auth_userprofile_gender_check": "auth_userprofile",
    "auth_userprofile_level_of_education_check": "auth_userprofile",
    "student_usertestgroup_name_check": "student_usertestgroup",
}


def test_rows_that_were_there_may_break_a_rule_and_new_ones_may_not(portal: str) -> None:
    execute(portal, "update auth_userprofile set gender = 'x' where user_id = 1")
    run(portal, PORTAL)
    for column, value in (("gender", "x"), ("level_of_education", "phd")):
        with pytest.raises(psycopg.errors.CheckViolation):
            execute(portal, f"update auth_userprofile set {column} = '{value}' where user_id = 2")
    execute(portal, "update auth_userprofile set gender = '', level_of_education = null")

    execute(
        portal,
        "alter table auth_userprofile drop constraint auth_userprofile_gender_check;"
        "update auth_userprofile set gender = 'x' where user_id = 1;"
        "alter table auth_userprofile add constraint auth_userprofile_gender_check"
        " check (gender in ('', 'm', 'f', 'o')) not valid;"
        "alter table auth_userprofile add constraint not_ours check (id > 0) not valid",
    )
    (profile,) = execute(portal, "select id from auth_userprofile where user_id = 1")
    offending = {**dict.fromkeys(ADOPTED_CHECKS, 0), "auth_userprofile_gender_check": 1}
    for dry_run in (True, False):
        found = ours(list(validate(portal, dry_run=dry_run)))
        assert {name: each.offending_total for name, each in found.items()} == offending
        assert found["auth_userprofile_gender_check"].offending_ids == [*profile]
        assert {name for name, each in found.items() if each.validated} == (
            set() if dry_run else {n for n, total in offending.items() if not total}
        )
    (again,) = ours(list(validate(portal))).values()
    assert (again.constraint, again.validated) == ("auth_userprofile_gender_check", False)
    execute(portal, "update auth_userprofile set gender = 'o' where user_id = 1")
    (mended,) = ours(list(validate(portal))).values()
    assert mended.validated
    assert list(validate(portal)) == []
    assert execute(portal, "select conname from pg_constraint where not convalidated") == [
        ("not_ours",)
    ]


def test_of_many_offending_rows_the_first_are_named_and_all_are_counted(portal: str) -> None:
    users = range(3, MAX_ROWS + 53)
    execute(portal, "".join(USER.format(user) for user in users))
    execute(
        portal,
        "insert into auth_userprofile (id, user_id, name, meta, courseware, language, location,"
        " gender) select id, id, '', '', '', '', '', '?' from auth_user where id > 2",
    )
    run(portal, PORTAL)
    found = ours(list(validate(portal)))["auth_userprofile_gender_check"]
    assert found.offending_total == len(users)
    assert found.offending_ids == [*users][:MAX_ROWS]


def test_validation_queues_for_no_lock_and_leaves_writers_alone(portal: str) -> None:
    run(portal, PORTAL)
    with psycopg.connect(portal) as other:
        other.execute("lock table auth_userprofile in share update exclusive mode")
        with pytest.raises(LockedError, match="auth_userprofile_gender_check"):
            list(validate(portal))
        other.rollback()
        other.execute("update auth_userprofile set gender = 'm'")
        assert ours(list(validate(portal))).keys() == ADOPTED_CHECKS.keys()


def test_where_pysync_made_the_tables_nothing_is_to_validate(new_database: NewDatabase) -> None:
    portal = new_database()
    with pytest.raises(PysyncError, match="isn't migrated"):
        list(validate(portal))
    run(portal, PORTAL)
    assert list(validate(portal)) == []
