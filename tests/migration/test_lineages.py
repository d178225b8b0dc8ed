"""Each lineage: up from nothing gives what is declared, down to nothing leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from migrations import revise
from pysync.db.sql_files import folder, split
from pysync.errors import MigrationError
from pysync.migrate import Lineage, head_revision, migrate
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.migrate.revisions import VERSION_TABLE, revisions
from pysync.migrate.run import whole
from pysync.types import PORTAL_ROLES, CourseId
from tests.migration.catalog import Catalog, catalog, difference
from tests.migration.conftest import COURSE_ID, NewDatabase, run, sqlstate
from tests.support import Cluster, Site, enroll, insert_user

pytestmark = pytest.mark.oldest_and_newest(
    "catalogs gain columns, and definitions other spellings, with versions; every version migrates"
    " for the tests of the path into a course"
)


@contextmanager
def sqlalchemy_connection(conninfo: str) -> Iterator[sqlalchemy.Connection]:
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(conninfo, options="-c search_path=pg_catalog"),
        poolclass=sqlalchemy.NullPool,
    )
    with engine.connect() as connection:
        yield connection


def test_down_leaves_no_trace_and_up_again_gives_the_same(
    lineage: Lineage, new_database: NewDatabase
) -> None:
    database = new_database()
    before = catalog(database)
    run(database, lineage)
    migrated = catalog(database)
    assert {row[0] for row in migrated["schemas"]} >= set(lineage.schemas)
    run(database, lineage, "base")
    assert difference(before, catalog(database)) == {}
    run(database, lineage)
    assert difference(migrated, catalog(database)) == {}
    run(database, lineage, "base")


def test_migrating_again_changes_nothing(lineage: Lineage, migrated: str) -> None:
    once = catalog(migrated)
    done = migrate(migrated, lineage, "again", course=COURSE_ID)
    assert (done.before, done.after) == (head_revision(lineage), head_revision(lineage))
    assert difference(once, catalog(migrated)) == {}


def test_files_are_named_in_the_order_of_revisions(lineage: Lineage) -> None:
    script = ScriptDirectory(
        str(folder("migrations")), version_locations=[str(folder("migrations") / lineage.name)]
    )
    by_alembic = [each.revision for each in script.walk_revisions()]
    assert [*reversed(by_alembic)] == [*revisions(lineage)]


def test_autogenerate_finds_nothing_to_do(lineage: Lineage, migrated: str) -> None:
    def is_ours(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "schema" or name in {*lineage.schemas, "public"}

    with sqlalchemy_connection(migrated) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": is_ours,
                "version_table": VERSION_TABLE,
                "version_table_schema": lineage.version_schema,
                # What sql/course: membership.sql makes of it is this column's type.
                "compare_type": lambda *of: None if of[2].name != "course_id" else False,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, lineage.metadata) == []


def test_migrated_tables_are_what_the_models_create(
    lineage: Lineage, migrated: str, new_database: NewDatabase
) -> None:
    """Autogenerate doesn't see checks, constraints' names, identities or storage parameters."""
    declared = new_database()
    with sqlalchemy_connection(declared) as connection:
        for schema in lineage.schemas:
            connection.execute(sqlalchemy.schema.CreateSchema(schema))
        lineage.metadata.create_all(connection)
        connection.commit()
    tables = {(table.schema, table.name) for table in lineage.metadata.tables.values()}
    assert described(catalog(migrated), tables) == described(catalog(declared), tables)


BASE_TYPES = {"course.this_course_id": "character varying(255)"}
"""What models declare where sql/course: membership.sql has another type made."""


def described(found: Catalog, tables: set[tuple[str | None, str]]) -> dict[str, set[Any]]:
    """Return what models say of tables: all but owners, privileges, policies and triggers."""
    return {
        "columns": {
            (*(BASE_TYPES.get(value, value) for value in row[:7]), *row[8:])
            for row in found["columns"]
            if row[:2] in tables
        },
        "constraints": {
            row
            for row in found["constraints"]
            # Made by sql/course: membership.sql, which names the course, and constraint triggers.
            if row[:2] in tables and not row[2].startswith("pysync_")
        },
        "indexes": {row for row in found["indexes"] if row[-1][:2] in tables},
        "storage": {(*row[:3], row[5:8]) for row in found["relations"] if row[:2] in tables},
    }


def test_revisions_are_numbered_and_each_follows_the_one_before(lineage: Lineage) -> None:
    script = ScriptDirectory(
        str(folder("migrations")), version_locations=[str(folder("migrations") / lineage.name)]
    )
    stamped = [(each.revision, each.down_revision) for each in script.walk_revisions()][::-1]
    numbered = [f"{lineage.name[0]}{number:04}" for number in range(1, len(stamped) + 1)]
    assert stamped == [*zip(numbered, [None, *numbered], strict=False)]


def test_the_newest_frozen_copies_are_the_living_files(lineage: Lineage) -> None:
    assert revise.living(lineage.name)
    assert revise.differences(lineage.name) == ({}, []), (
        f"sql/{lineage.name}/ and the frozen copies differ: run 'make revision "
        f"LINEAGE={lineage.name}', with NAME=… if the newest revision is released already"
    )


def test_a_new_course_database_is_made_by_one_script() -> None:
    """That it makes the same as the revisions is tested with what ``--sql`` prints."""
    assert whole(COURSE), "revisions have changed since: run 'make revision LINEAGE=course'"


def test_released_files_are_as_they_were_released() -> None:
    assert revise.altered() == [], (
        "databases have run these files: restore them, and make the change by a revision of its "
        "own, 'make revision LINEAGE=… NAME=…'"
    )


def test_sql_files_are_safe_to_run_twice(lineage: Lineage, migrated: str) -> None:
    before = catalog(migrated)
    with psycopg.connect(migrated, autocommit=True) as connection:
        for text in revise.living(lineage.name).values():
            for statement in split(text):
                connection.execute(statement.encode())
    assert difference(before, catalog(migrated)) == {}


def test_functions_arrive_as_they_stand_in_their_files(lineage: Lineage, migrated: str) -> None:
    """Colons, percent signs and backslashes survive Alembic and SQLAlchemy."""
    bodies = {row[5] for row in catalog(migrated)["functions"] if row[5]}
    text = "".join(revise.living(lineage.name).values())
    assert bodies
    assert [body for body in bodies if body not in text] == []


def test_a_portal_that_goes_leaves_its_roles_to_the_others(
    course_server: Cluster, new_database: NewDatabase
) -> None:
    first, second = new_database(), new_database()
    before = catalog(first)
    run(first, PORTAL)
    run(second, PORTAL)
    run(first, PORTAL, "base")
    left = difference(before, catalog(first))
    assert sorted(row[0] for row in left.pop("roles")["new"]) == [*PORTAL_ROLES]
    assert left == {}
    run(second, PORTAL, "base")
    assert difference(before, catalog(first)) == {}


@pytest.mark.newest("what we refuse, whichever server has the rows")
def test_downgrade_refuses_to_drop_rows(new_database: NewDatabase) -> None:
    portal = new_database()
    run(portal, PORTAL)
    migrated = catalog(portal)
    with psycopg.connect(portal, autocommit=True) as connection:
        connection.execute("insert into auth_user (username, password) values ('ada', '')")
    with pytest.raises(MigrationError, match=r"table 'public\.auth_user' holds rows") as caught:
        run(portal, PORTAL, "base")
    assert sqlstate(caught.value) == "PY006"
    assert caught.value.remedy == "copy them elsewhere and delete them first"
    assert difference(migrated, catalog(portal)) == {}


def test_downgrade_of_a_portal_refuses_with_registered_courses(site: Site) -> None:
    site.register_only("A")
    before = catalog(site.portal)
    with pytest.raises(MigrationError, match="courses are registered") as caught:
        run(site.portal, PORTAL, "base")
    assert sqlstate(caught.value) == "PY006"
    assert difference(before, catalog(site.portal)) == {}


@pytest.mark.newest("what we refuse, whichever server has the rows")
def test_downgrade_of_a_course_refuses_with_a_subscription_and_with_rows(site: Site) -> None:
    from pysync.lifecycle import courses

    site.add("A")
    enroll(site, insert_user(site, "ada"), "A")
    site.wait()
    before = catalog(site.databases["A"])
    with pytest.raises(MigrationError, match="subscribed to a portal") as caught:
        run(site.databases["A"], COURSE, "base")
    assert sqlstate(caught.value) == "PY006"
    assert difference(before, catalog(site.databases["A"])) == {}
    courses.remove(site.portal, CourseId("A"))
    before = catalog(site.databases["A"])
    with pytest.raises(MigrationError, match="holds rows that the downgrade would drop") as caught:
        run(site.databases["A"], COURSE, "base")
    assert sqlstate(caught.value) == "PY006"
    assert difference(before, catalog(site.databases["A"])) == {}
    course = site.course("A")
    course.execute("delete from student_courseenrollment")
    course.execute("delete from auth_user")
    run(site.databases["A"], COURSE, "base")
    assert not [row for row in catalog(site.databases["A"])["schemas"] if row[0] == "course"]
