"""The next revision arrives while courses stream and applications write: a rehearsal.

A throw-away pair of revisions adds a column to what is replicated, another takes it back. They are
made by `make revision` in a copy of the code, which then migrates a site of the present code.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pysync.db.connections import LOCK_TIMEOUT_SECONDS
from pysync.lifecycle import courses
from pysync.lifecycle.claim import claim
from pysync.lifecycle.reroute import reroute
from pysync.lifecycle.resync import resync
from pysync.types import CourseId, relay_id
from tests.conftest import INSTALLATIONS
from tests.support import Cluster, Silent, Site
from tests.tree import Tree

pytestmark = [
    pytest.mark.oldest_and_newest("changed publications are decoded by the server"),
    pytest.mark.timeout(900),
]

USERS = 300
GOALS = "    goals: Mapped[str | None] = mapped_column(Text)\n"
NICKNAME = "    nickname: Mapped[str] = mapped_column(Text, server_default=text(\"''\"))\n"
ADD = (
    'op.add_column("auth_userprofile", sa.Column("nickname", sa.Text, nullable=False,'
    " server_default=sa.text(\"''\")), schema={!r})"
)
DROP = 'op.drop_column("auth_userprofile", "nickname", schema={!r})'
SCHEMAS = {"portal": ("public", "course"), "course": ("course",)}
FIRST, LAST = "    # Columns and tables that are new", "    # Columns and tables that go"


def add_nickname(tree: Tree) -> None:
    """Declare a column, and make the revisions that bring it."""
    tree.edit("pysync/models/columns.py", GOALS, GOALS + NICKNAME)
    revise(tree, "add_nickname", FIRST, ADD)


def drop_nickname(tree: Tree) -> None:
    tree.edit("pysync/models/columns.py", NICKNAME, "")
    revise(tree, "drop_nickname", LAST, DROP)


def revise(tree: Tree, name: str, place: str, operation: str) -> None:
    for lineage, schemas in SCHEMAS.items():
        script = tree.make("revision", lineage, name).strip()
        tree.edit(
            script, "from pathlib", "import sqlalchemy as sa\nfrom alembic import op\nfrom pathlib"
        )
        lines = "".join(f"    {operation.format(schema)}\n" for schema in schemas)
        tree.edit(script, place, f"{lines}{place}")


KILL = """
import os, signal, sys
from pysync.cli import main
from pysync.migrate import plan, publications

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

def after(original, times=1):
    def called(*arguments, **options):
        result = original(*arguments, **options)
        called.left -= 1
        return result if called.left else die()
    called.left = times
    return called

publications.BATCH = 20
migrate = plan.migrate
{kill}
main()
"""
KILLS = {
    "before the portal": (
        "plan.migrate = lambda conninfo, lineage, *rest, **options:"
        " die() if lineage.name == 'portal' else migrate(conninfo, lineage, *rest, **options)"
    ),
    "after the portal": "plan.publish = die",
    "after the first publication": "publications.make = after(publications.make)",
    "in the middle of filling": "publications._write = after(publications._write, 3)",
}


def kill(tree: Tree, site: Site, where: str) -> None:
    """Run a migration that is killed at a point."""
    done = tree.run(KILL.format(kill=KILLS[where]), "migrate", portal=site.portal)
    assert done.returncode == -9, (where, done.stdout, done.stderr)


def run(tree: Tree, site: Site, *arguments: str) -> str:
    done = tree.pysync(site.portal, *arguments)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def statuses(tree: Tree, site: Site) -> dict[str, dict[str, Any]]:
    """Return what `pysync status` says of each course, once all have answered."""
    deadline = time.monotonic() + 60
    while True:
        done = tree.pysync(site.portal, "status", "--format", "json")
        found = {each["course_id"]: each for each in json.loads(done.stdout)["courses"]}
        answered = all(each["state"] != "unreachable" for each in found.values())
        if answered or time.monotonic() > deadline:
            return found


class Writer(threading.Thread):
    """Writes as applications do, one transaction after the other, and says how long any took."""

    STATEMENTS = (
        "update auth_userprofile set goals = 'g{n}' where user_id = {user}",
        "update auth_userprofile set nickname = 'n{n}' where user_id = {user}",
        "update auth_user set email = 'e{n}@example.org' where id = {user}",
        "insert into student_courseenrollment (user_id, course_id) values ({user}, 'A')"
        " on conflict do nothing",
        "delete from student_courseenrollment where user_id = {user} and course_id = 'B'",
        "with one as (insert into auth_user (username, password) values ('w{n}-' || clock_timestamp(), '')"
        " returning id),"
        " enrolled as (insert into student_courseenrollment (user_id, course_id)"
        "              select id, 'B' from one)"
        " insert into auth_userprofile (user_id, name) select id, 'Writer' from one",
    )

    def __init__(self, site: Site, number: int) -> None:
        super().__init__(name=f"writer {number}")
        self.conninfo = site.portal
        self.number = number
        self.done = threading.Event()
        self.longest = 0.0
        self.failure: psycopg.Error | None = None

    def run(self) -> None:
        try:
            with psycopg.connect(self.conninfo, autocommit=True) as connection:
                for count in range(1_000_000):
                    if self.done.wait(0.05):
                        return
                    number = count * 2 + self.number
                    statement = self.STATEMENTS[count % len(self.STATEMENTS)]
                    user = 1 + number * 7 % USERS
                    start = time.monotonic()
                    try:
                        connection.execute(statement.format(n=number, user=user).encode())
                    except psycopg.errors.UndefinedColumn:
                        continue  # there is no nickname yet, or no longer
                    self.longest = max(self.longest, time.monotonic() - start)
        except psycopg.Error as failure:
            self.failure = failure


@contextmanager
def writing(site: Site) -> Iterator[None]:
    """Have applications write; nothing may fail, and nobody wait for longer than a lock may."""
    writers = [Writer(site, number) for number in range(2)]
    for each in writers:
        each.start()
    try:
        yield
    finally:
        for each in writers:
            each.done.set()
        for each in writers:
            each.join(30)
    assert [each.failure for each in writers] == [None, None]
    assert max(each.longest for each in writers) < LOCK_TIMEOUT_SECONDS + 3


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path / "next")
    yield tree
    tree.stop()


@pytest.fixture
def streaming(site: Site) -> Site:
    """Two courses that stream, of users with profiles."""
    site.execute(
        "insert into auth_user (id, username, password)"
        " select n, 'user' || n, 'secret' from generate_series(1, %s) as n",
        USERS,
    )
    site.execute("alter table auth_user alter column id restart with 100000")
    site.execute("insert into auth_userprofile (user_id, name) select id, username from auth_user")
    for course, divisor in (("A", 2), ("B", 3)):
        site.execute(
            "insert into student_courseenrollment (user_id, course_id)"
            " select id, %s from auth_user where id %% %s > 0",
            course,
            divisor,
        )
        site.add(course)
    return site


def nicknames(site: Site, course_id: str) -> tuple[dict[int, str], dict[int, str]]:
    """Return those of a course's members on both sides."""
    ours = site.execute(
        "select p.user_id, p.nickname from auth_userprofile p"
        " join student_courseenrollment e on e.user_id = p.user_id where e.course_id = %s",
        course_id,
    )
    with site.course(course_id) as course:
        theirs = course.execute(
            "select p.user_id, p.nickname from auth_userprofile p"
            " join student_courseenrollment e on e.user_id = p.user_id"
        ).fetchall()
    return dict(ours), dict(theirs)


def assert_followed(tree: Tree, site: Site) -> None:
    """Courses hold what the portal holds, and nothing is left to be done."""
    site.wait()
    run(tree, site, "verify")
    found = statuses(tree, site)
    assert {each["state"] for each in found.values()} == {"streaming"}, found
    noted = site.execute("select distinct unfilled, withdrawn from pysync.course")
    assert noted == [([], False)]


@pytest.mark.newest("the same is tried on both ends with columns of the portal's own")
def test_a_column_is_added_and_dropped_while_courses_stream(tree: Tree, streaming: Site) -> None:
    site = streaming
    # One of them by way of a relay.
    courses.add(site.portal, relay_id("north"), site.new_database(), Silent())
    reroute(site.portal, CourseId("B"), relay_id("north"), Silent())
    add_nickname(tree)
    with writing(site):
        kill(tree, site, "before the portal")
        kill(tree, site, "after the portal")
        # Not published yet. One is so long that it lies out of line.
        site.execute("update auth_userprofile set nickname = 'before' || id where id % 5 = 0")
        site.execute(
            "update auth_userprofile set nickname ="
            " (select string_agg(md5(n::text), '') from generate_series(1, 1000) as n)"
            " where user_id in (1, 2, 4)"
        )
        kill(tree, site, "after the first publication")
        found = statuses(tree, site)
        assert {each["state"] for each in found.values()} == {"drifted"}, found
        assert {each["remedy"] for each in found.values()} == {"run 'pysync migrate'"}
        assert "nickname" in found["A"]["cause"]
        assert "nickname" in found["B"]["cause"]
        kill(tree, site, "in the middle of filling")
        said = run(tree, site, "migrate")
        assert "publication of B: lacks auth_userprofile.nickname -> as declared" in said
    assert_followed(tree, site)
    for course in ("A", "B"):
        ours, theirs = nicknames(site, course)
        assert ours == theirs
        assert {ours[user][:6] for user in ours} >= {"before", ""}
        assert max(map(len, ours.values())) == 32_000
    again = run(tree, site, "migrate").splitlines()
    assert [line.split(": ")[1][:3] for line in again] == ["at "] * 4

    drop_nickname(tree)
    script = run(tree, site, "migrate", "--sql")
    assert "publication of A" in script
    assert "ACCESS EXCLUSIVE: reads and writes wait\nALTER TABLE course.auth_userprofile" in script
    with writing(site):
        kill(tree, site, "after the first publication")
        assert site.one("select withdrawn from pysync.course where course_id = 'A'")
        said = run(tree, site, "migrate")
        assert "publication of B: publishes auth_userprofile.nickname -> as declared" in said
    assert_followed(tree, site)
    assert site.execute("select from pg_attribute where attname = 'nickname'") == []


IMPATIENT = """
from pysync.db import transactions
from pysync.migrate import publications
transactions.TRIES = publications.TRIES = 3
from pysync.cli import main
main()
"""
"""The command line, when it gives up sooner."""


@pytest.mark.newest("our own waiting and naming")
def test_who_writes_on_and_on_is_named_and_not_waited_for(tree: Tree, streaming: Site) -> None:
    site = streaming
    add_nickname(tree)
    kill(tree, site, "after the portal")
    site.execute("update auth_userprofile set nickname = 'before'")
    with psycopg.connect(site.portal, application_name="bulk") as bulk:
        bulk.execute("update auth_userprofile set goals = '' where user_id = 1")
        bulk.execute("set constraints all immediate")  # or courses hear of it in the end
        done = tree.run(IMPATIENT, "migrate", portal=site.portal)
        assert done.returncode == 1
        assert "course 'A' is busy: " in done.stderr
        assert "it is held by process" in done.stderr
        assert "(“bulk”, idle in transaction" in done.stderr
        assert site.execute("select unfilled from pysync.course") == [([],)] * 2
        bulk.rollback()
        kill(tree, site, "in the middle of filling")
        # Rows that are being written are left for later; nobody holds others meanwhile.
        bulk.execute("update auth_userprofile set goals = '' where user_id = 1")
        bulk.execute("set constraints all immediate")  # or courses hear of it in the end
        done = tree.run(IMPATIENT, "migrate", portal=site.portal)
        assert "course 'A' is busy: " in done.stderr
        assert "it is held by process" in done.stderr
        assert "(“bulk”, idle in transaction" in done.stderr
        (unfilled,) = site.execute("select unfilled from pysync.course where course_id = 'A'")
        assert unfilled == (["auth_userprofile.nickname"],)
        bulk.rollback()
    run(tree, site, "migrate")
    assert_followed(tree, site)


def client(site: Site, program: str, *arguments: str) -> None:
    """Run a program that comes with the servers."""
    bindir = INSTALLATIONS[site.portal_server.major].bindir
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    subprocess.run([bindir / program, *arguments], check=True, env=environment)


def restored(site: Site, cluster: Cluster, conninfo: str, file: Path) -> str:
    """Dump a database, and restore it under another name."""
    client(site, "pg_dump", "--format=custom", "--no-subscriptions", f"--file={file}", conninfo)
    database = site.new_database(cluster)
    client(site, "pg_restore", "--exit-on-error", f"--dbname={database}", str(file))
    return database


@pytest.mark.newest("what a dump holds of ours; changed publications are tested on both ends")
def test_a_dump_of_the_revision_before_is_upgraded(
    tree: Tree, streaming: Site, tmp_path: Path
) -> None:
    """Of the present one, as long as there is none before: the next is the throw-away pair."""
    site = streaming
    portal = restored(site, site.portal_server, site.portal, tmp_path / "portal")
    for course in ("A", "B"):
        courses.remove(site.portal, CourseId(course))
    site._created.append((site.portal_server, site.portal))
    site.portal = portal
    claim(portal)
    for course in ("A", "B"):
        file = tmp_path / course
        site.databases[course] = restored(site, site.course_server, site.databases[course], file)
        with site.course(course) as database:
            # A database's settings aren't in its dump.
            name = sql.Identifier(database.info.dbname)
            path = sql.SQL("alter database {} set search_path = course, public").format(name)
            database.execute(path)
        site.execute(
            "update pysync.course set conninfo = %s, portal_conninfo = %s where course_id = %s",
            site.databases[course],
            portal,
            course,
        )
        resync(portal, CourseId(course), Silent())
    add_nickname(tree)
    with writing(site):
        run(tree, site, "migrate")
    site.execute("update auth_userprofile set nickname = 'after' where id % 2 = 0")
    assert_followed(tree, site)
    for course in ("A", "B"):
        ours, theirs = nicknames(site, course)
        assert ours == theirs
        assert "after" in ours.values()
