"""Databases that go away with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import psycopg
import pytest

from pysync.adoption.completion import plan
from pysync.adoption.found import inspect
from pysync.db.connections import Connection, connect
from pysync.errors import AdoptionError
from pysync.migrate import Lineage, migrate
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.models.replicated import REPLICATED_TABLES
from pysync.types import COURSE_ROLE, PORTAL_ROLES, CourseId
from tests.support import Cluster

NewDatabase = Callable[..., str]

COURSE_ID = CourseId("100%: a'b \\c :x")
"""Holds whatever SQLAlchemy, Alembic, psycopg or the server might take for something else."""


def run(conninfo: str, lineage: Lineage, target: str = "head") -> None:
    """Migrate a database."""
    course = COURSE_ID if lineage is COURSE else None
    migrate(conninfo, lineage, lineage.name, course=course, target=target)


def refusal(conninfo: str, lineage: Lineage, statements: str) -> AdoptionError:
    """Return what adoption says of a site after some statements, all of which is rolled back."""
    schema = "public" if lineage is PORTAL else "course"

    def adopt(connection: Connection) -> None:
        found = inspect(connection, "public", REPLICATED_TABLES)
        assert {*found} == {*REPLICATED_TABLES}
        for name in REPLICATED_TABLES:
            plan(found[name], lineage.metadata.tables[f"{schema}.{name}"], lineage.side)

    with closing(connect(conninfo)) as connection, connection.transaction(force_rollback=True):
        connection.execute("set local search_path = public")
        # What triggers have still to do would be in the way of ALTER TABLE.
        connection.execute("set constraints all immediate")
        connection.execute(statements.encode())
        with pytest.raises(AdoptionError) as caught:
            adopt(connection)
    return caught.value


def sqlstate(error: BaseException) -> str | None:
    """Return the server's error code behind an error of ours."""
    cause = error.__cause__
    original = getattr(cause, "orig", cause)
    return original.sqlstate if isinstance(original, psycopg.Error) else None


@pytest.fixture(params=[PORTAL, COURSE], ids=lambda lineage: lineage.name)
def lineage(request: pytest.FixtureRequest) -> Lineage:
    """Each lineage in turn."""
    found: Lineage = request.param
    return found


_migrated: dict[tuple[int, str], str] = {}


@pytest.fixture
def migrated(lineage: Lineage, portal_server: Cluster) -> str:
    """A migrated database of the lineage, for tests that only look at it."""
    # A session fixture per lineage would have pytest start the servers of each version twice.
    key = (int(portal_server.executor.port), lineage.name)
    if key not in _migrated:
        conninfo = portal_server.create(f"migrated_{lineage.name}")
        run(conninfo, lineage)
        _migrated[key] = conninfo
    return _migrated[key]


@pytest.fixture
def new_database(course_server: Cluster) -> Iterator[NewDatabase]:
    """Create databases, on the course server by default.

    That has no portals but those a test makes, so not even the role that portals of a cluster
    share is there, before and afterwards.
    """
    created: list[tuple[Cluster, str]] = []

    def create(cluster: Cluster | None = None, template: str | None = None) -> str:
        cluster = cluster or course_server
        conninfo = cluster.create(template=template)
        created.append((cluster, conninfo))
        return conninfo

    _drop_owner(course_server)
    yield create
    for cluster, conninfo in created:
        cluster.drop(conninfo)
    _drop_owner(course_server)


def _drop_owner(cluster: Cluster) -> None:
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        for roles in (PORTAL_ROLES, [COURSE_ROLE]):
            # Other tests' databases may be there still, and need theirs.
            with suppress(psycopg.errors.DependentObjectsStillExist):
                connection.execute(f"drop role if exists {', '.join(roles)}")
