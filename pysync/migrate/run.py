"""Bring one database to a revision: locked, checked, in one transaction."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from psycopg import sql

from pysync.db.connections import Connection, fetch_value
from pysync.db.queries import load
from pysync.db.sql_files import folder
from pysync.errors import MigrationError
from pysync.migrate import databases
from pysync.migrate.bringing import bring
from pysync.migrate.carried import Carried
from pysync.migrate.installed import Difference, respell
from pysync.migrate.lineage import Lineage
from pysync.migrate.revisions import current_revision, head_revision, revisions
from pysync.models.replicated import REPLICATED_TABLES
from pysync.types import RELAY_PREFIX, CourseId

COURSE_PLACE: Final = "'{course_id}'"
"""Where a script names the course."""

_QUERIES: Final = load(__file__)
_TABLES: Final = list(REPLICATED_TABLES)


def whole(lineage: Lineage) -> str | None:
    """Return the script that makes a new database, as of a lineage's revisions as they are.

    :returns: ``None`` if there is none, or they have changed since it was made.
    """
    path = folder("migrations") / f"{lineage.name}.sql"
    if not path.exists():
        return None
    head, _, script = path.read_text(encoding="utf-8").partition("\n")
    return script if head.endswith(fingerprint(lineage)) else None


def fingerprint(lineage: Lineage) -> str:
    """Return what tells whether any file of any revision has changed."""
    home, seen = folder("migrations") / lineage.name, sha256()
    for file in sorted(each for each in home.rglob("*") if each.suffix in (".py", ".sql")):
        seen.update(f"{file.relative_to(home)}\0".encode() + file.read_bytes() + b"\0")
    return seen.hexdigest()


@dataclass(frozen=True)
class Migrated:
    """What a migration did: revisions before and after (``None`` is "not migrated"), or its SQL.

    ``differences`` are what is left of them after objects were installed again, ``columns`` say
    what was done for columns of the portal's own.
    """

    before: str | None
    after: str | None
    script: str | None = None
    differences: tuple[Difference, ...] | None = None
    columns: tuple[str, ...] = ()


def migrate(
    conninfo: str,
    lineage: Lineage,
    subject: str,
    *,
    course: CourseId | None = None,
    merging: bool = False,
    keep_owner: bool = False,
    carried: Carried | None = None,
    target: str = "head",
    offline: bool = False,
    reinstall: bool = False,
) -> Migrated:
    """Upgrade or downgrade one database.

    :param conninfo: of the database.
    :param subject: what to call it in messages, such as ``portal`` or ``course 'X'``.
    :param course: the course a course database is for.
    :param merging: take over a course's tables with their rows: a merge is going to follow.
    :param keep_owner: leave a course's own tables to the role that owns them.
    :param carried: the columns of the portal's own that a course database is to have; by default
        it keeps those that it has. The portal has what its registry says.
    :param target: a revision of the lineage, ``head`` or ``base``.
    :param offline: return the SQL instead of running it.
    :param reinstall: run the newest frozen copies of all objects again.
    :raises MigrationError: if the target doesn't exist or a revision fails.
    :raises AdoptionError: if a table that is there already can't be adopted.
    :raises UnsuitableDatabaseError: if the database has another part to play.
    :raises DatabaseUnreachableError: if it can't be reached.
    :raises LockedError: if locks aren't free in time; nothing is changed.
    """
    target = _resolve(lineage, target, reinstall=reinstall)
    attributes = {
        "lineage": lineage,
        "course_id": course,
        "merging": course if merging else None,
        "keep_owner": keep_owner,
        "carried": carried,
    }
    if not offline and not reinstall:
        done = _at_once(conninfo, attributes, subject, target)
        if done is not None:
            return done
    from pysync.migrate.stepwise import run  # it takes a while to import SQLAlchemy and Alembic

    return run(conninfo, attributes, subject, target, offline=offline, reinstall=reinstall)


def _at_once(
    conninfo: str, attributes: dict[str, Any], subject: str, target: str
) -> Migrated | None:
    """Bring a database to a revision where no step has to be run: it is there, or has nothing yet.

    :returns: ``None`` for any other database, which is left as it is.
    """
    lineage: Lineage = attributes["lineage"]
    course: CourseId | None = attributes["course_id"]
    with databases.translated(conninfo, lineage, subject) as connection:
        script = _script(connection, lineage, target, course)
        if script is None:
            return None
        before = databases.wait_for_turn(connection, lineage, subject)
        if before is None and script:
            name = sql.Literal(str(course)).as_string(connection)
            connection.execute(script.replace(COURSE_PLACE, name).encode(), prepare=False)
        elif before == target:
            respell(connection, lineage)
        else:  # somebody else was faster
            return None
        done = bring(connection, lineage, subject, attributes["carried"])
        connection.commit()
        return Migrated(before, target, columns=tuple(done))


def _script(
    connection: Connection, lineage: Lineage, target: str, course: CourseId | None
) -> str | None:
    """Return what brings a database to a revision at once, ``None`` if nothing does."""
    before = current_revision(connection, lineage)
    if before is not None:
        return "" if before == target else None
    if course is not None and course.startswith(RELAY_PREFIX):
        return None  # its tables are others
    # Tables that are there already are taken over instead.
    found = _QUERIES["found_tables"]
    if target != head_revision(lineage) or fetch_value(connection, found, names=_TABLES):
        return None
    return whole(lineage)


def _resolve(lineage: Lineage, target: str, *, reinstall: bool) -> str:
    known = revisions(lineage)
    if target == "head":
        return known[-1]
    if target != "base" and target not in known:
        raise MigrationError(
            f"revision '{target}' unknown in lineage '{lineage.name}'",
            f"choose one of: base, {', '.join(known)}, head",
        )
    if reinstall and target != known[-1]:
        raise MigrationError(
            f"objects of revision '{target}' can't be made anew: this pysync has those of "
            f"'{known[-1]}'",
            "run it without --to",
        )
    return target
