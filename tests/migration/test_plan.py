"""Which databases are migrated, in which order, and what stops the portal."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pysync.db.sql_files import folder
from pysync.errors import MigrationError, UnknownCourseError, UnsuitableDatabaseError
from pysync.lifecycle import courses
from pysync.migrate import Lineage, Migrated, head_revision, migrate
from pysync.migrate import revisions as migration_revisions
from pysync.migrate import run as migration_run
from pysync.migrate import stepwise as migration_stepwise
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.migrate.plan import run_all, run_course, run_portal
from pysync.replication import registry
from pysync.types import CourseId
from pysync.watching import status
from tests.migration.catalog import catalog, difference
from tests.migration.conftest import NewDatabase, run
from tests.support import Cluster, Site

pytestmark = pytest.mark.newest("the order of our own steps, whichever server does them")

P_HEAD, C_HEAD = head_revision(PORTAL), head_revision(COURSE)
P_NEXT, C_NEXT = (f"{head[0]}{int(head[1:]) + 1:04}" for head in (P_HEAD, C_HEAD))

NEXT_REVISION = """
from pysync.migrate.operations import execute

revision = "{0}"
down_revision = "{1}"


def upgrade():
    execute("alter table {2} add column added text")


def downgrade():
    execute("alter table {2} drop column added")
"""


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pysync whose lineages go one revision further."""
    migrations = tmp_path / "migrations"
    shutil.copytree(folder("migrations"), migrations, ignore=shutil.ignore_patterns("__pycache__"))
    for lineage, revision, newest, table in (
        ("portal", P_NEXT, P_HEAD, "pysync.course"),
        ("course", C_NEXT, C_HEAD, "course.mark"),
    ):
        (migrations / lineage / f"{revision}_next.py").write_text(
            NEXT_REVISION.format(revision, newest, table)
        )
    for module in (migration_revisions, migration_run, migration_stepwise):
        monkeypatch.setattr(module, "folder", lambda name: {"migrations": migrations}[name])


def revisions(site: Site) -> dict[str, str | None]:
    return {each.database: each.current for each in status.revisions(site.portal)}


@pytest.fixture
def registered(site: Site) -> Site:
    """Two courses with migrated databases; replication has no part in these tests."""
    site.register_only("A", "B")
    for course in ("A", "B"):
        site.databases[course] = site.new_database()
        migrate(site.databases[course], COURSE, f"course '{course}'", course=CourseId(course))
        site.execute(
            "update pysync.course set conninfo = %s where course_id = %s",
            site.databases[course],
            course,
        )
    return site


def test_courses_are_migrated_before_the_portal(registered: Site, next_release: None) -> None:
    assert revisions(registered) == {"portal": P_HEAD, "A": C_HEAD, "B": C_HEAD}
    done = run_all(registered.portal)
    assert next(done) == ("A", Migrated(C_HEAD, C_NEXT))
    assert revisions(registered) == {"portal": P_HEAD, "A": C_NEXT, "B": C_HEAD}
    assert list(done) == [
        ("B", Migrated(C_HEAD, C_NEXT)),
        ("portal", Migrated(P_HEAD, P_NEXT)),
    ]
    assert revisions(registered) == {"portal": P_NEXT, "A": C_NEXT, "B": C_NEXT}
    assert all(each.pending is False for each in status.revisions(registered.portal))


def test_the_registry_of_an_older_portal_is_read_for_what_it_has(
    registered: Site, next_release: None, tmp_path: Path
) -> None:
    (tmp_path / "migrations" / "portal" / f"{P_NEXT}_next.py").write_text(
        NEXT_REVISION.format(P_NEXT, P_HEAD, "pysync.course").replace(
            "add column added text",
            "add unfilled text[] not null default '{}', add withdrawn bool not null default false",
        )
    )
    registered.execute("alter table pysync.course drop unfilled, drop withdrawn, add later text")
    with registry.connect_portal(registered.portal) as portal:
        for _ in range(2 * (portal.prepare_threshold or 0)):
            older = [*registry.courses(portal), registry.get(portal, CourseId("A"))]
        assert [each.course_id for each in older] == ["A", "B", "A"]
        assert {(each.unfilled, each.withdrawn) for each in older} == {((), False)}
        done = dict(run_all(registered.portal))
        assert done["portal"] == Migrated(P_HEAD, P_NEXT)
        registered.execute("update pysync.course set withdrawn = true where course_id = 'B'")
        newer = registry.courses(portal)
        assert [(each.unfilled, each.withdrawn) for each in newer] == [([], False), ([], True)]


def test_a_course_that_fails_leaves_the_portal_alone_but_not_the_other_courses(
    registered: Site, next_release: None
) -> None:
    with registered.course("A") as course:
        course.execute("alter table course.mark add column added text")
    before = catalog(registered.portal)
    in_course = catalog(registered.databases["A"])
    with pytest.raises(MigrationError) as caught:
        list(run_all(registered.portal))
    assert "portal left as it is, since 1 of 2 courses" in caught.value.message
    assert "course 'A'" in caught.value.message
    assert 'column "added" of relation "mark" already exists' in caught.value.message
    assert revisions(registered) == {"portal": P_HEAD, "A": C_HEAD, "B": C_NEXT}
    assert difference(before, catalog(registered.portal)) == {}
    assert difference(in_course, catalog(registered.databases["A"])) == {}


def test_a_course_that_is_gone_leaves_the_portal_alone(
    registered: Site, next_release: None
) -> None:
    registered.execute(
        "update pysync.course set conninfo = 'host=127.0.0.1 port=1 dbname=gone user=x'"
        " where course_id = 'B'"
    )
    with pytest.raises(MigrationError, match=r"course 'B': database 'gone on 127\.0\.0\.1:1'"):
        list(run_all(registered.portal))
    assert registered.one("select version_num from pysync.alembic_version") == P_HEAD


def test_each_database_goes_to_the_revision_that_is_named(
    registered: Site, next_release: None
) -> None:
    before = catalog(registered.databases["A"])
    assert run_course(registered.portal, CourseId("A")) == ("A", Migrated(C_HEAD, C_NEXT))
    assert run_portal(registered.portal, P_NEXT) == ("portal", Migrated(P_HEAD, P_NEXT))
    assert run_course(registered.portal, CourseId("A"), C_HEAD) == (
        "A",
        Migrated(C_NEXT, C_HEAD),
    )
    assert run_portal(registered.portal, P_HEAD)[1] == Migrated(P_NEXT, P_HEAD)
    assert difference(before, catalog(registered.databases["A"])) == {}


def test_offline_prints_every_database_and_changes_none(
    registered: Site, next_release: None
) -> None:
    before = catalog(registered.portal)
    scripts = {name: done.script or "" for name, done in run_all(registered.portal, offline=True)}
    assert list(scripts) == ["A", "B", "portal"]
    assert "alter table course.mark add column added text" in scripts["A"]
    assert "alter table pysync.course add column added text" in scripts["portal"]
    assert revisions(registered) == {"portal": P_HEAD, "A": C_HEAD, "B": C_HEAD}
    assert difference(before, catalog(registered.portal)) == {}


@pytest.mark.parametrize("revision", ["p0099", C_HEAD, "", "base:head", "-1", "+1"])
def test_a_revision_that_the_lineage_does_not_have_is_refused(
    lineage: Lineage, migrated: str, revision: str
) -> None:
    if lineage is COURSE:
        revision = revision.translate({ord("c"): "p", ord("p"): "c"})
    with pytest.raises(
        MigrationError, match=f"revision '.*' unknown in lineage '{lineage.name}'"
    ) as caught:
        run(migrated, lineage, revision)
    newest = C_HEAD if lineage is COURSE else P_HEAD
    known = ", ".join(f"{newest[0]}{number:04}" for number in range(1, int(newest[1:]) + 1))
    assert caught.value.remedy == f"choose one of: base, {known}, head"


def test_a_revision_can_only_be_named_together_with_its_database(site: Site) -> None:
    with pytest.raises(MigrationError, match="revision 'p0001' belongs to one lineage only"):
        list(run_all(site.portal, "p0001"))
    with pytest.raises(UnknownCourseError, match="course 'X' is not registered"):
        run_course(site.portal, CourseId("X"))


def test_a_portal_with_courses_is_not_taken_down(site: Site) -> None:
    site.register_only("A")
    with pytest.raises(MigrationError, match="portal has 1 registered courses"):
        list(run_all(site.portal, "base"))
    with psycopg.connect(site.portal, autocommit=True) as connection:
        connection.execute("delete from pysync.course")
    assert [name for name, _ in run_all(site.portal, "base")] == ["portal"]
    assert list(run_all(site.portal, "base")) == [("portal", Migrated(None, None))]


def test_a_database_of_a_newer_pysync_is_left_alone(
    lineage: Lineage, migrated: str, new_database: NewDatabase, portal_server: Cluster
) -> None:
    copy = new_database(portal_server, template=f"migrated_{lineage.name}")
    with psycopg.connect(copy, autocommit=True) as connection:
        connection.execute(
            sql.SQL("update {}.alembic_version set version_num = 'x0099'").format(
                sql.Identifier(lineage.version_schema)
            )
        )
    before = catalog(copy)
    with pytest.raises(MigrationError, match="is at revision 'x0099', which this pysync") as caught:
        run(copy, lineage)
    assert caught.value.remedy == "install a newer pysync"
    assert difference(before, catalog(copy)) == {}


def test_a_database_has_one_part_to_play(site: Site, new_database: NewDatabase) -> None:
    course = new_database()
    run(course, COURSE)
    with pytest.raises(UnsuitableDatabaseError, match="it is the database of course '100%"):
        run(course, PORTAL)
    with pytest.raises(UnsuitableDatabaseError, match="it is a portal"):
        run(site.portal, COURSE)
    other = new_database()
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute("create schema course")
    for lineage in (PORTAL, COURSE):
        with pytest.raises(
            UnsuitableDatabaseError, match="schema 'course' is there already and isn't pysync's"
        ):
            run(other, lineage)
    with pytest.raises(MigrationError, match="isn't a portal"):
        courses.remove(other, CourseId("A"))
