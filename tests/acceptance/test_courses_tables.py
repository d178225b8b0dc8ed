"""What a course's site has beside the replicated tables: it works, or is named before it does harm."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pysync.db.connections import connect
from pysync.diagnosis.references import reference_findings
from pysync.lifecycle import courses, resync
from pysync.models.replicated import REPLICATED
from pysync.types import CourseId
from pysync.verification import repair, verify
from pysync.watching.doctor import examine
from pysync.watching.status import status
from tests.conftest import INSTALLATIONS
from tests.integration.fan_out import role
from tests.integration.test_portals_tables import TYPES, altered
from tests.support import (
    Silent,
    Site,
    assert_live_rows,
    enroll,
    eventually,
    insert_user,
    unenroll,
)

pytestmark = pytest.mark.oldest_and_newest("what PostgreSQL lets others do with tables of theirs")


def doctor(site: Site, words: str) -> list[Any]:
    """Return what doctor finds that has some words in it."""
    found = [each.finding for each in examine(site.portal)]
    return [each for each in found if words in str(each)]


def state(site: Site) -> tuple[str, str, tuple[str, ...]]:
    (course,) = status(site.portal)
    return course.state.value, course.cause or "", course.commands


def change(site: Site, name: str) -> None:
    """Have each kind of change on its way to the course."""
    user = insert_user(site, name)
    site.execute("insert into public.auth_userprofile (user_id, name) values (%s, 'n')", user)
    enroll(site, user, "A")
    site.execute("update public.auth_user set first_name = %s, last_login = now()", name)
    site.execute("update public.auth_userprofile set goals = %s, year_of_birth = 1815", name)
    site.execute("update public.student_courseenrollment set created = now()")
    site.wait()


def refused(session: psycopg.Connection[Any], statement: str) -> None:
    with pytest.raises(psycopg.Error) as error:
        session.execute(statement)
    assert error.value.sqlstate == "PY002", str(error.value)


def test_columns_of_any_type_and_changed_types_are_the_sites_business(site: Site) -> None:
    change(site, "before")
    site.add("A")
    course = site.course("A")
    session = site.course("A")
    session.prepare_threshold = None
    session.execute("update course.auth_user set last_login = now()")
    course.execute("create type public.pair as (a json, b point)")
    course.execute("create domain public.some_json as json")
    for table in ("auth_user", "auth_userprofile", "student_courseenrollment"):
        course.execute(f"alter table course.{table} add dropped int")
        course.execute(f"alter table course.{table} drop dropped")
        for name, type_ in TYPES.items():
            course.execute(f"alter table course.{table} add {name} {type_}")
    change(site, "typed")
    session.execute("update course.auth_user set prefs = '[1]', place = '(1,2)'")
    refused(session, "update course.auth_user set prefs = '[2]', email = 'x'")
    # Rows that are wrong are found and mended, their own columns kept.
    with course.transaction():
        course.execute("set local session_replication_role = replica")
        course.execute("update course.auth_user set email = 'wrong' where username = 'before'")
        course.execute("delete from course.student_courseenrollment where user_id = 1")
    (found,) = verify(site.portal, [], Silent())
    assert {each.table for each in found.differences} == {"auth_user", "student_courseenrollment"}
    done = repair(site.portal, CourseId("A"), Silent())
    assert done.after is not None
    assert done.after.clean
    resync.resync(site.portal, CourseId("A"), Silent())
    kept = "select distinct prefs::text, place::text, length - id from course.auth_user"
    assert course.execute(kept).fetchall() == [("[1]", "(1,2)", 1)]

    for each in REPLICATED:
        for column in each.described:
            type_ = column.type
            if column.name == "id":
                course.execute(f"alter table course.{each.name} drop if exists length")
            if column.name == "course_id":
                continue  # its type says whose the row is
            for changed in altered(type_):
                if changed in ("integer", "character varying(100)"):
                    continue  # narrower than the portal's
                course.execute(f"alter table course.{each.name} alter {column.name} type {changed}")
                if each.name == "auth_user":
                    session.execute("update course.auth_user set last_login = now()")
                    if column.name in ("username", "email"):
                        refused(
                            session,
                            f"update course.auth_user set {column.name} = 'x' where id = 1",
                        )
        change(site, f"altered_{each.stem}")
    assert_live_rows(site, "A")
    (found,) = verify(site.portal, [], Silent())
    assert found.clean

    # Narrower than the portal's: named before a value comes that doesn't fit.
    course.execute("alter table course.auth_user alter last_name type varchar(20)")
    is_now, cause, commands = state(site)
    assert (is_now, "course.auth_user" in cause) == ("drifted", True)
    course.execute(commands[0])
    # Policies that hold for the tables' owner hold for replication.
    course.execute("alter table course.auth_userprofile enable row level security")
    course.execute("alter table course.auth_userprofile force row level security")
    is_now, cause, commands = state(site)
    assert (is_now, "row security" in cause) == ("drifted", True)
    course.execute(commands[0])
    assert state(site)[0] == "streaming"


@pytest.mark.newest("a setting as old as schemas")
def test_a_search_path_that_hides_the_tables_is_named(site: Site) -> None:
    database = site.new_database()
    name = sql.Identifier(str(conninfo_to_dict(database)["dbname"])).as_string(None)
    with site.connect(database) as plain:
        plain.execute(f"alter database {name} set search_path = ''")
    site.add("A", database)
    assert state(site)[0] == "streaming"
    course = site.course("A")
    change(site, "ada")
    with role(
        site, "usage on schema course", "select on all tables in schema course", conninfo=database
    ) as web:
        reads = "select username from auth_user"

        def finds() -> bool:
            with psycopg.connect(make_conninfo(database, user=web)) as session:
                return session.execute(reads).fetchall() == [("ada",)]

        assert finds()
        for path in ("public", "''", '"a,b", public'):
            for where in ("", f"in database {name}"):
                course.execute(f"alter role {web} {where} set search_path = {path}")
                is_now, cause, commands = state(site)
                assert (is_now, f"search_path of role '{web}'" in cause) == ("drifted", True)
                assert doctor(site, f"search_path of role '{web}'")
                course.execute(commands[0])
                course.execute("reset search_path")
                assert finds()
                assert state(site)[0] == "streaming"
                course.execute(f"alter role {web} reset search_path")
                course.execute(f"alter role {web} in database {name} reset search_path")
        # Something of the same name that comes before.
        course.execute("create schema legacy create view auth_user as select 1 as id")
        assert state(site)[0] == "streaming"
        course.execute(f"alter role {web} set search_path = legacy, course")
        assert state(site)[:1] == ("drifted",)
        course.execute(f"alter role {web} reset search_path")
        course.execute(f"alter database {name} set search_path = legacy, course")
        is_now, cause, _ = state(site)
        assert (is_now, "legacy.auth_user" in cause) == ("drifted", True)
        # Who can't read the tables has no use for them.
        course.execute(f"alter database {name} set search_path = course")
        course.execute(f"revoke all on schema course from {web}")
        course.execute(f"alter role {web} set search_path = public")
        assert state(site)[0] == "streaming"


OWN_TABLES = """
create table public.note (
    id int primary key,
    enrollment_id bigint constraint note_enrollment references course.student_courseenrollment
        on delete cascade,
    profile_id bigint constraint note_profile references course.auth_userprofile on delete set null,
    user_id bigint references course.auth_user on delete cascade
);
create table public.reply (
    id int, note_id int constraint reply_note references public.note on delete cascade
);
create table public.badge (
    id int, enrollment_id bigint constraint badge_enrollment
        references course.student_courseenrollment deferrable initially deferred
);
create table public.grade (a bigint, b varchar(255), constraint grade_pair foreign key (a, b)
    references course.student_courseenrollment (user_id, course_id) on delete restrict);
"""
FILL = """
insert into public.note select e.id, e.id, p.id, e.user_id
  from course.student_courseenrollment e join course.auth_userprofile p using (user_id);
insert into public.reply select id, id from public.note;
insert into public.badge select id, enrollment_id from public.note;
insert into public.grade select user_id, course_id from course.student_courseenrollment
"""


@pytest.mark.newest("keys are in catalogs that both ends have alike")
def test_keys_of_the_courses_own_are_named_and_kept_or_reported(site: Site) -> None:
    for user in ("ada", "bob", "eve"):
        change(site, user)
    site.add("A")
    course = site.course("A")
    course.execute(OWN_TABLES)
    course.execute(FILL)
    keys = {"note_enrollment", "note_profile", "reply_note", "badge_enrollment", "grade_pair"}
    found = doctor(site, "isn't kept by replication")
    assert {each.object.split("'")[1] for each in found} == keys
    assert not any(each.must for each in found)
    progress = Silent()
    courses.add(site.portal, CourseId("A"), site.databases["A"], progress)
    assert sum("isn't kept by replication" in each for each in progress.warnings) == len(keys)

    # Replication goes on, and what points at nothing is reported.
    ada, bob, _ = (row[0] for row in site.execute("select id from auth_user order by id"))
    unenroll(site, ada, "A")
    site.execute("delete from auth_user where id = %s", bob)
    site.wait()
    (seen,) = verify(site.portal, [], Silent())
    assert seen.differences == []
    assert not seen.clean
    dangling = {each.foreign_key: each.rows for each in seen.dangling}
    assert dangling == {
        "note_enrollment": 2,
        "note_profile": 1,
        "badge_enrollment": 2,
        "grade_pair": 2,
    }
    for each in seen.dangling:
        course.execute(each.remedy.commands[0])
    course.execute("reset search_path")
    (seen,) = verify(site.portal, [], Silent())
    assert [each.foreign_key for each in seen.dangling] == []
    assert seen.clean

    # What doctor says keeps them from then on.
    course.execute("set session_replication_role = origin")
    with connect(site.databases["A"]) as database:
        for _ in range(2):  # a key that refuses deletions first becomes one that follows them
            for finding in list(reference_findings(database)):
                course.execute(finding.commands[0])
        assert list(reference_findings(database)) == []
    change(site, "kim")
    change(site, "liv")
    course.execute("reset search_path")
    course.execute("truncate public.note, public.reply, public.badge, public.grade")
    course.execute(FILL)
    kim = site.one("select id from auth_user where username = 'kim'")
    liv = site.one("select id from auth_user where username = 'liv'")
    unenroll(site, kim, "A")
    site.execute("delete from auth_user where id = %s", liv)
    site.wait()
    rows = "select (select count(*) from {}), (select count(*) from {}), (select count(*) from {})"
    left = course.execute(rows.format("public.note", "public.reply", "public.grade")).fetchall()
    assert left == [(1, 1, 1)]
    (seen,) = verify(site.portal, [], Silent())
    assert seen.clean
    assert state(site)[0] == "streaming"


def dump(site: Site, conninfo: str, file: Path) -> subprocess.CompletedProcess[str]:
    program = INSTALLATIONS[site.portal_server.major].bindir / "pg_dump"
    return subprocess.run(
        [str(program), "--file", str(file), conninfo], check=False, capture_output=True, text=True
    )


def test_backups_fail_by_name_and_work_once_granted(site: Site, tmp_path: Path) -> None:
    change(site, "ada")
    site.add("A")
    course, portal = site.databases["A"], site.portal
    with (
        role(site, "pg_read_all_data") as nightly,
        role(site, "pg_read_all_data", conninfo=course) as nightly_in_course,
        role(site) as owner,
    ):
        for table in ("auth_user", "auth_userprofile", "student_courseenrollment"):
            site.execute(f"alter table public.{table} owner to {owner}")
        for user in (nightly, owner):
            failed = dump(site, make_conninfo(portal, user=user), tmp_path / "portal.sql")
            assert failed.returncode != 0
        found, other = doctor(site, "can't dump all on the portal")
        assert (found.object, other.object) == (f"role '{nightly}'", f"role '{owner}'")
        site.execute(found.commands[0])
        assert doctor(site, "can't dump all") == []
        for user, conninfo in ((nightly, portal), (nightly_in_course, course)):
            done = dump(site, make_conninfo(conninfo, user=user), tmp_path / "all.sql")
            assert done.returncode == 0, done.stderr
            assert "ada@example.org" in (tmp_path / "all.sql").read_text()
        site.execute(f"alter role {nightly} nologin")
        (found,) = doctor(site, "can't dump all on the portal")
        assert f"role '{owner}'" in found.object
        try:
            site.execute(found.commands[0])
            done = dump(site, make_conninfo(portal, user="pysync_backup"), tmp_path / "all.sql")
            assert done.returncode == 0, done.stderr
            assert doctor(site, "can't dump all") == []
        finally:
            site.execute("drop role pysync_backup")
            for table in ("auth_user", "auth_userprofile", "student_courseenrollment"):
                site.execute(f"alter table public.{table} owner to current_user")
    eventually(lambda: state(site)[0] == "streaming")
