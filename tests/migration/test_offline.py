"""`--sql` prints what an online run would do, and does nothing."""

from __future__ import annotations

import psycopg
import pytest

from pysync.migrate import Lineage, migrate
from pysync.migrate.lineage import COURSE
from tests.django_site.process import new_site
from tests.migration.catalog import catalog, difference
from tests.migration.conftest import COURSE_ID, NewDatabase, run
from tests.support import Cluster

pytestmark = pytest.mark.newest("what is printed depends on revisions, which run on every version")


def script(conninfo: str, lineage: Lineage, target: str) -> str:
    """Return the SQL of a migration, which must leave the database as it is."""
    before = catalog(conninfo)
    course = COURSE_ID if lineage is COURSE else None
    done = migrate(conninfo, lineage, lineage.name, course=course, target=target, offline=True)
    assert difference(before, catalog(conninfo)) == {}
    assert done.before == done.after
    assert done.script is not None
    return done.script


def execute(conninfo: str, text: str) -> None:
    """Run a script as psql would, with a search path that could lead it astray."""
    with psycopg.connect(
        conninfo, autocommit=True, options="-c search_path=course,pysync,public"
    ) as connection:
        connection.execute(text.encode())


@pytest.mark.parametrize("origin", ["empty", "Django's"])
def test_a_script_does_what_an_online_run_does(
    lineage: Lineage, origin: str, new_database: NewDatabase, course_server: Cluster
) -> None:
    template = new_site(course_server, forum=lineage is COURSE) if origin == "Django's" else None
    online, offline = new_database(template=template), new_database(template=template)
    for target in ("head", "base"):
        text = script(offline, lineage, target)
        run(online, lineage, target)
        execute(offline, text)
        assert difference(catalog(online), catalog(offline)) == {}, target
        if target == "head" and lineage is COURSE:
            with psycopg.connect(offline) as connection:
                row = connection.execute("select course_id from course.this_course").fetchone()
            assert row == (COURSE_ID,)


def test_where_nothing_is_to_do_the_script_is_empty(
    lineage: Lineage, new_database: NewDatabase, migrated: str
) -> None:
    empty = migrate(new_database(), lineage, lineage.name, target="base", offline=True)
    assert (empty.script or "").strip() == ""
    before = catalog(migrated)
    execute(migrated, script(migrated, lineage, "head"))
    assert difference(before, catalog(migrated)) == {}
