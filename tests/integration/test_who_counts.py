"""A column of the portal's enrollments says which of them count: `pysync membership`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from psycopg.conninfo import conninfo_to_dict

from pysync.db.connections import connect
from pysync.diagnosis.drift import portal_findings, undecided
from pysync.migrate import columns, membership, wanted
from pysync.migrate.carried import ENROLLMENTS
from tests.integration.fan_out import App, application, copy_of, differences
from tests.integration.test_interleavings import (
    ADD_PROFILE,
    BACKFILL,
    ENROLL,
    LATE,
    RENAME_USER,
    UNENROLL,
    UPDATE_PROFILE,
    UPDATE_USER,
    Case,
    Portal,
    Scenario,
    Timing,
    cases,
    fresh,
    play,
)
from tests.support import Cluster, Rows, Silent, Site

pytestmark = pytest.mark.oldest_and_newest("how rows, plans and isolation levels are")

COUNTS = "member.is_active"
OFF = (
    "update student_courseenrollment set is_active = false"
    " where user_id = %(user)s and course_id = %(course)s"
)
ON = OFF.replace("false", "true")
OFF_LATE = OFF.replace("course)s", "late)s")
ENROLL_OFF = ENROLL.replace("(user_id,", "(is_active, user_id,").replace(
    "(%(user)s", "(false, %(user)s"
)
SCENARIOS = (
    Scenario("on-user_update", ON, UPDATE_USER, (ENROLL_OFF,)),
    Scenario("on-user_rename", ON, RENAME_USER, (ENROLL, OFF)),
    Scenario("on-profile_update", ON, UPDATE_PROFILE, (ADD_PROFILE, ENROLL, OFF)),
    Scenario("off-user_update", OFF, UPDATE_USER, (ENROLL,)),
    Scenario("off-profile_update", OFF, UPDATE_PROFILE, (ADD_PROFILE, ENROLL)),
    Scenario("off-on", OFF, ON, (ENROLL,)),
    Scenario("backfill-off", BACKFILL, OFF_LATE, LATE),
)


@pytest.fixture(scope="module")
def portal(
    portal_server: Cluster, course_server: Cluster, portal_template: str
) -> Iterator[Portal]:
    """A portal on which enrollments count while they are active."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    database = conninfo_to_dict(site.portal)["dbname"]
    site.execute(f"alter database {database} set synchronous_commit = off")
    add_column(site)
    membership.decide(site.portal, "is_active", Silent())
    with application(site) as app:
        yield Portal(app, COUNTS)
    site.close()


def add_column(site: Site) -> None:
    site.execute("alter table public.student_courseenrollment add is_active boolean default true")


@pytest.fixture
def case(portal: Portal) -> Iterator[Case]:
    with fresh(portal) as case:
        yield case


def wrong(portal: Portal, *courses: str) -> Rows:
    """Return what differs, as a test's own SQL has it and as `pysync verify` does."""
    ours = "select fd.* from unnest(%s::text[]) as c (id) cross join pysync.fan_out_differences(c.id) fd"
    return differences(portal.site, portal.counts) + portal.site.execute(ours, list(courses))


@pytest.mark.parametrize(("scenario", "level", "timing"), list(cases(SCENARIOS)))
def test_two_transactions(case: Case, scenario: Scenario, level: str, timing: Timing) -> None:
    play(case, scenario, level, timing)


def test_turning_it_off_is_leaving_and_turning_it_on_is_coming(case: Case) -> None:
    portal, app, names = case.portal, case.portal.app, case.names
    user, course, second = int(names["user"]), str(names["course"]), str(names["second"])
    others = [app.user(f"{course}-{number}") for number in range(150)]
    everybody = [user, *others]
    app.profile(user, name="first")

    def write(statement: str) -> None:
        app.execute(statement, everybody)
        assert wrong(portal, course, second) == [], statement

    def email() -> tuple[object, ...] | None:
        return copy_of(portal.site, user, course, "live, email")

    app.execute(
        "insert into student_courseenrollment (user_id, course_id, is_active)"
        " select u, c, u %% 3 = 0 or u = %s from unnest(%s::bigint[]) u, unnest(%s::text[]) c",
        user,
        everybody,
        [course, second],
    )
    assert wrong(portal, course, second) == []
    update = "update student_courseenrollment set {} where user_id = any (%s)"
    write(update.format("created = now()"))
    write(update.format("is_active = not is_active"))
    (live, before) = email() or (None, None)
    assert (live, before) == (False, app.one("select email from auth_user where id = %s", user))
    write("update auth_user set email = 'new@example.org' where id = any (%s)")
    write("update auth_userprofile set name = 'second' where user_id = any (%s)")
    assert email() == (False, before)
    write(update.format("is_active = true, created = null"))
    assert email() == (True, "new@example.org")
    write(update.format("is_active = null"))
    write(
        "insert into student_courseenrollment (user_id, course_id)"
        f" select u, '{course}' from unnest(%s::bigint[]) u"
        " on conflict (user_id, course_id) do update set is_active = true"
    )
    write(update.format("course_id = 'none of ' || course_id, is_active = user_id %% 2 = 0"))
    write(update.format("course_id = substr(course_id, 9), is_active = not is_active"))
    write(update.format("id = id + 100000"))
    write("delete from student_courseenrollment where user_id = any (%s)")
    assert email() == (False, "new@example.org")


def test_a_column_that_goes_fails_no_write_and_removes_nobody(case: Case) -> None:
    portal, app, names = case.portal, case.portal.app, case.names
    course = str(names["course"])
    for statement in (ADD_PROFILE, ENROLL, ENROLL.replace("user)s", "another)s"), OFF):
        app.connection.execute(statement, names)
    for change, told in (
        ("alter column is_active type text using is_active::text", "no boolean"),
        ("drop column is_active", "is gone"),
    ):
        portal.site.execute(f"alter table public.student_courseenrollment {change}")
        with connect(portal.site.portal) as connection:
            (finding,) = portal_findings(connection)
        assert told in finding.text
        assert "pysync membership --reset" in finding.text.commands
        # Whoever is written counts, with user and profile.
        app.execute("update student_courseenrollment set created = now()")
        app.execute("update auth_user set last_name = 'x'")
        portal.counts = "true"
        assert wrong(portal, course) == []
        app.connection.execute(UNENROLL, names)
        app.connection.execute(ENROLL, names)
        assert wrong(portal, course) == []
    portal.counts = COUNTS
    add_column(portal.site)
    app.connection.execute(OFF, names)
    assert wrong(portal, course) == []
    with connect(portal.site.portal) as connection:
        assert portal_findings(connection) == []


def test_nothing_is_decided_until_somebody_does(app: App) -> None:
    def named() -> list[str]:
        with connect(app.site.portal) as connection:
            return [command for each in undecided(connection) for command in each.text.commands]

    assert named() == []
    add_column(app.site)
    try:
        app.site.register_only("A")
        app.enroll(app.user("ada"), "A")
        app.execute("update student_courseenrollment set is_active = false")
        assert differences(app.site) == []
        assert named() == ["pysync membership --column is_active", "pysync membership --reset"]
        membership.decide(app.site.portal, None, Silent())
        assert named() == []
        # Carried or not, what it says about who counts stays.
        app.site.execute("delete from pysync.course")
        membership.decide(app.site.portal, "is_active", Silent())
        of = (ENROLLMENTS, "is_active")
        # Nor does another table's column of that name matter.
        same = ("auth_userprofile", "is_active")
        app.site.execute("alter table auth_userprofile add is_active text")
        for each in (of, same):
            asked = partial(wanted.asked, each[0], each[1:], scrub=None, takes_over=False)
            assert list(columns.add(app.site.portal, asked, Silent()))
        assert list(columns.remove(app.site.portal, *of, "keep", Silent()))
        app.site.register_only("A")
        app.execute("update student_courseenrollment set is_active = true")
        assert app.site.one("select count(*) from course.student_courseenrollment") == 1
        app.execute("update student_courseenrollment set is_active = null")
        assert differences(app.site, "false") == []
        app.site.execute("alter table student_courseenrollment rename is_active to was_active")
        app.execute("update student_courseenrollment set created = now()")
        assert differences(app.site) == []
        app.site.execute("alter table student_courseenrollment rename was_active to is_active")
        app.site.execute("delete from pysync.course")
        assert list(columns.remove(app.site.portal, *same, "keep", Silent()))
        app.site.execute("alter table auth_userprofile drop column is_active")
    finally:
        app.site.execute("delete from pysync.course")
        membership.decide(app.site.portal, None, Silent())
        app.site.execute("alter table public.student_courseenrollment drop column is_active")
        app.site.execute("delete from pysync.membership")
