"""`make revision` and `make release`, on a copy of the tree."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.migration.catalog import catalog, difference
from tests.migration.conftest import NewDatabase
from tests.tree import Tree

MARK_OF = """
create function pysync.mark_of(course_id text)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
return (select mark.number from course.mark where mark.course_id = mark_of.course_id);
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    tree.stop()


def change_sql(tree: Tree) -> None:
    """Change a function, move one, drop one with its trigger, add one."""
    portal = tree.root / "sql/portal"
    tree.edit("sql/portal/users/change_name.sql", "as $$\n", "as $$\n-- as before\n")
    (portal / "users/user_count.sql").rename(portal / "number_of_users.sql")
    (portal / "testcenter/touch_updated_at.sql").unlink()
    (portal / "monitoring/mark_of.sql").write_text(MARK_OF, encoding="utf-8")


def test_a_revision_holds_what_has_changed_and_what_its_downgrade_replays(tree: Tree) -> None:
    change_sql(tree)
    script = "migrations/portal/p0002_add_nickname.py"
    assert tree.make("revision", "portal", "add_nickname") == f"{script}\n"
    changed = ["monitoring/mark_of.sql", "number_of_users.sql", "users/change_name.sql"]
    assert tree.copies("portal/p0002") == changed
    lists = tree.lists(script)
    assert lists["DROPPED"] == ["testcenter/touch_updated_at.sql", "users/user_count.sql"]
    assert lists["DOWN_REPLAYS"] == [
        "p0001/testcenter/touch_updated_at.sql",
        "p0001/users/change_name.sql",
        "p0001/users/user_count.sql",
    ]
    assert lists["DOWN_DROPS"] == ["drop function if exists pysync.mark_of(text)"]
    kinds = [drop.split()[1] for drop in lists["UP_DROPS"]]
    assert kinds == ["trigger"] * (len(kinds) - 1) + ["function"]
    assert "user_count" not in str(lists["UP_DROPS"]), "it was moved, not dropped"


def test_a_revision_is_refreshed_until_it_is_released(tree: Tree) -> None:
    change_sql(tree)
    tree.make("revision", "portal", "add_nickname")
    script = "migrations/portal/p0002_add_nickname.py"
    tree.edit(
        script, "    # Columns and tables that are new", "    pass  # filled in by hand\n    #"
    )
    (tree.root / "sql/portal/monitoring/mark_of.sql").unlink()
    tree.edit("sql/portal/mark.sql", "as $$\n", "as $$\n-- as before\n")
    assert tree.make("revision", "portal") == f"{script}\n"
    changed = ["mark.sql", "number_of_users.sql", "users/change_name.sql"]
    assert tree.copies("portal/p0002") == changed
    assert tree.lists(script)["DOWN_DROPS"] == []
    assert "p0001/mark.sql" in tree.lists(script)["DOWN_REPLAYS"]
    assert "filled in by hand" in (tree.root / script).read_text(encoding="utf-8")
    tree.make("release")
    assert "p0002 is released" in tree.refused("revision", "portal")
    assert tree.make("revision", "portal", "more") == "migrations/portal/p0003_more.py\n"
    assert tree.copies("portal/p0003") == []
    assert tree.lists("migrations/portal/p0003_more.py")["DROPPED"] == []


def test_the_first_revision_is_refreshed_too(tree: Tree) -> None:
    tree.edit("sql/course/wait_for.sql", "\n", "\n-- changed\n")
    (tree.root / "sql/course/refuse_write.sql").unlink()
    assert "differ (refuse_write.sql, wait_for.sql)" in tree.refused("release")
    tree.make("revision", "course")
    living = sorted(file.name for file in (tree.root / "sql/course").glob("*.sql"))
    assert tree.copies("course/c0001") == living
    tree.make("release")


def test_what_is_released_stays_as_it_is(tree: Tree) -> None:
    noted = tree.root / "migrations/released.sha256"
    tree.make("release")
    once = noted.read_text(encoding="utf-8")
    tree.make("release")
    assert noted.read_text(encoding="utf-8") == once
    paths = ["portal/p0001/roles.sql", "course/c0001_initial.py"]
    for path in paths:
        assert f"  {path}\n" in once
        tree.edit(f"migrations/{path}", "\n", "\n\n")
    (tree.root / "migrations/portal/p0001/mark.sql").unlink()
    (tree.root / "migrations/portal/p0001/more.sql").touch()
    (tree.root / "migrations/portal/p0002_next.py").touch()
    altered = tree.run("from migrations import revise; print(revise.altered())")
    expected = sorted([*paths, "portal/p0001/mark.sql", "portal/p0001/more.sql"])
    assert altered.stdout == f"{expected}\n", altered.stderr
    # Where sql/ follows a changed copy, what is released has changed all the same.
    shutil.rmtree(tree.root / "sql")
    for lineage, revision in (("portal", "p0001"), ("course", "c0001")):
        shutil.copytree(tree.root / f"migrations/{lineage}/{revision}", tree.root / "sql" / lineage)
    assert "released files have changed (course/c0001_initial.py" in tree.refused("release")


def test_what_cannot_be_meant_is_refused(tree: Tree) -> None:
    assert "usage: make revision" in tree.refused("revision")
    assert "usage: make revision" in tree.refused("revision", "relay", "x")
    assert "'Add x' is no name" in tree.refused("revision", "portal", "Add x")


@pytest.mark.newest("SQL of ours, replayed")
def test_up_and_down_again_by_a_revision_as_it_was_made(
    tree: Tree, new_database: NewDatabase
) -> None:
    portal = new_database()
    tree.migrate(portal)
    before = catalog(portal)
    change_sql(tree)
    tree.make("revision", "portal", "add_nickname")
    tree.migrate(portal)
    with psycopg.connect(portal, autocommit=True) as connection:
        row = connection.execute("select pysync.mark_of('X')").fetchone()
        assert row == (None,)
        functions = "select count(*) from pg_proc where proname = any (%s)"
        names = ["touch_updated_at", "user_count", "change_name"]
        assert connection.execute(functions, (names,)).fetchone() == (2,)
    assert difference(before, catalog(portal)) != {}
    tree.migrate(portal, "--to", "p0001")
    assert difference(before, catalog(portal)) == {}
    tree.migrate(portal, "--to", "base")
