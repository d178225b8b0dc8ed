"""`make revision` and `make release`, on a copy of the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.migration.catalog import catalog, difference
from tests.migration.conftest import NewDatabase

ROOT = Path(__file__).parents[2]
MARK = "migrations/portal/p0002/monitoring/mark_of.sql"

MARK_OF = """
create function pysync.mark_of(course_id text)
returns bigint
language sql
stable
set search_path = ''
return (select mark.number from course.mark where mark.course_id = mark_of.course_id);
"""


class Tree:
    """A copy of the code that can be changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("pysync", "sql", "migrations"):
            shutil.copytree(ROOT / name, root / name)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYSYNC_"))}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=inherited | {"PYTHONPATH": str(self.root)} | environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=100,
        )

    def make(self, *arguments: str) -> str:
        result = self.run("migrations/revise.py", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def refused(self, *arguments: str) -> str:
        result = self.run("migrations/revise.py", *arguments)
        assert result.returncode == 1, result.stdout
        assert "Traceback" not in result.stderr
        return result.stderr

    def migrate(self, conninfo: str, *arguments: str) -> None:
        result = self.run("-m", "pysync", "migrate", "portal", *arguments, PYSYNC_PORTAL=conninfo)
        assert result.returncode == 0, result.stderr

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")

    def lists(self, script: str) -> dict[str, Any]:
        names: dict[str, Any] = {"__file__": str(self.root / script)}
        exec((self.root / script).read_text(encoding="utf-8"), names)
        return {k: names[k] for k in ("DROPPED", "UP_DROPS", "DOWN_REPLAYS", "DOWN_DROPS")}

    def copies(self, revision: str) -> list[str]:
        folder = self.root / "migrations" / revision
        return sorted(str(file.relative_to(folder)) for file in folder.rglob("*.sql"))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


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
    assert tree.copies("course/c0001") == ["membership.sql", "search_path.sql", "wait_for.sql"]
    tree.make("release")


def test_what_is_released_stays_as_it_is(tree: Tree) -> None:
    noted = tree.root / "migrations/released.sha256"
    tree.make("release")
    once = noted.read_text(encoding="utf-8")
    tree.make("release")
    assert noted.read_text(encoding="utf-8") == once
    paths = ["portal/p0001/owner.sql", "course/c0001_initial.py"]
    for path in paths:
        assert f"  {path}\n" in once
        tree.edit(f"migrations/{path}", "\n", "\n\n")
    (tree.root / "migrations/portal/p0001/mark.sql").unlink()
    (tree.root / "migrations/portal/p0001/more.sql").touch()
    (tree.root / "migrations/portal/p0002_next.py").touch()
    altered = tree.run("-c", "from migrations import revise; print(revise.altered())")
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
