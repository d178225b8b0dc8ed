"""Say what ``pg_upgrade`` of a server will take along, and what is left to do once it has run.

From 17 on it takes slots that have nothing pending along, and subscriptions of which no table is
half copied. What it never takes along is which database this is: the new server is another one.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Final

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.errors import PysyncError
from pysync.findings import IN_COURSE, ON_PORTAL, Finding, run
from pysync.migrate import installed
from pysync.migrate.lineage import COURSE, PORTAL, Lineage
from pysync.replication import identities, registry
from pysync.replication.polling import ask_each
from pysync.replication.registry import Course
from pysync.texts import Text, word
from pysync.types import CourseId
from pysync.watching.doctor import Diagnosis
from pysync.watching.status import CourseStatus, State, report

_PORTAL_SETTINGS: Final = ("wal_level", "max_replication_slots", "max_wal_senders")
_COURSE_SETTINGS: Final = (
    "max_replication_slots",
    "max_active_replication_origins",
    "max_logical_replication_workers",
    "max_worker_processes",
)
_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class Kept:
    """What of a course ``pg_upgrade`` takes along; ``None`` is not known, or isn't there.

    :param slot: when the portal's server is upgraded, or that of its relay.
    :param subscription: when the course's server is.
    """

    course_id: str
    slot: bool | None
    subscription: bool | None


@dataclass(frozen=True)
class Needs:
    """What has to be set on the server that takes one's place: at least what that has.

    :param course_id: a course on it; ``None`` for the portal's.
    """

    course_id: str | None
    settings: dict[str, str]


@dataclass(frozen=True)
class Outlook:
    """What goes along, what new servers need, and what is to be done now."""

    courses: list[Kept]
    servers: list[Needs]
    findings: list[Diagnosis]

    @property
    def is_whole(self) -> bool:
        """Return whether everything goes along, and nothing must be done now."""
        kept = (which for each in self.courses for which in (each.slot, each.subscription))
        return False not in kept and not any(each.finding.must for each in self.findings)


@dataclass(frozen=True)
class _Server:
    """What a server says of itself, and of the database that was asked.

    :param place: which server it is.
    :param keeps: whether ``pg_upgrade`` takes slots and subscriptions along from here.
    :param prepared: how many transactions are prepared on it.
    :param unanalyzed: tables of pysync's without statistics that are worth some.
    """

    place: int
    keeps: bool
    settings: dict[str, str]
    prepared: int
    unanalyzed: list[str]
    is_copy: bool = False
    recorded_elsewhere: bool = False


def check(portal_conninfo: str) -> Outlook:
    """Look at the portal and at every course that can be reached; nothing is changed.

    :returns: with what must be mended first, and of that the portal's before the courses'.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    """
    told = report(portal_conninfo)
    states = {each.course_id: each for each in told.courses}
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        courses = [each for each in registry.subscribers(portal) if each.course_id in states]
        courses.sort(key=lambda each: not each.is_relay)  # what courses stream from comes first
        ours = _ask(portal, PORTAL)
        slots = [*_slots(portal, courses)] if ours.keeps else []
    found = [Diagnosis(None, each) for each in (told.unclaimed, *slots) if each]
    kept, lost, servers = [], [], {ours.place: Needs(None, _needed(ours, _PORTAL_SETTINGS))}
    answers = ask_each(courses, _ask_course)
    senders: dict[CourseId | None, _Server | PysyncError] = {None: ours}
    senders.update(zip((each.course_id for each in courses), answers, strict=True))
    found += [Diagnosis(None, each) for each in _of_server(ours, ON_PORTAL)]
    for course, answer in zip(courses, answers, strict=True):
        status, theirs = states[course.course_id], None
        if not isinstance(answer, PysyncError):
            theirs = answer
            of_course = [*_of_server(theirs, IN_COURSE, known=theirs.place in servers)]
            needs = servers.setdefault(theirs.place, Needs(course.course_id, {}))
            needs.settings.update(_needed(theirs, _COURSE_SETTINGS))
            found += [Diagnosis(course.course_id, each) for each in of_course]
        kept.append(_kept(senders.get(course.relay), theirs, status))
        if theirs is not None and theirs.is_copy:
            found.append(Diagnosis(course.course_id, _copied(course)))
        elif status.state is State.LOST:
            lost.append(status)
        elif status.state is not State.STREAMING:
            found.append(Diagnosis(course.course_id, _not_streaming(status)))
    if lost:
        found.append(Diagnosis(None, _lost(lost)))
    if any(each.recorded_elsewhere for each in (ours, *answers) if isinstance(each, _Server)):
        found.append(Diagnosis(None, _RECORDED_ELSEWHERE))
    found.sort(key=lambda each: (not each.finding.must, each.course_id is not None))
    return Outlook(kept, [*servers.values()], found)


_RECORDED_ELSEWHERE: Final = Finding(
    "what pysync made",
    "was recorded on another version of PostgreSQL: what each spells its own way isn't compared",
    "run 'pysync migrate'",
    must=False,
)


def _needed(server: _Server, names: Sequence[str]) -> dict[str, str]:
    return {name: server.settings[name] for name in names}


def _ask(database: Connection, lineage: Lineage) -> _Server:
    asked = {"schemas": list(lineage.schemas)}
    with database.cursor(row_factory=class_row(_Server)) as cursor:
        found = cursor.execute(_QUERIES["upgraded_server"], asked).fetchone()
    assert found is not None  # noqa: S101 - it has one row
    with suppress(psycopg.ProgrammingError):  # who only looks on may not read it
        found = replace(found, recorded_elsewhere=installed.is_elsewhere(database, lineage))
    return found


def _ask_course(database: Connection, _: Course) -> _Server:
    return replace(_ask(database, COURSE), is_copy=identities.is_copy(database))


def _kept(
    sender: _Server | PysyncError | None, theirs: _Server | None, status: CourseStatus
) -> Kept:
    """Return what of a course would go along if its servers were upgraded now."""
    slot = None
    if status.slot_active is not None and isinstance(sender, _Server):
        slot = sender.keeps and status.state is State.STREAMING
    whole = bool(status.tables_total) and status.tables_ready == status.tables_total
    return Kept(
        status.course_id,
        slot,
        None if theirs is None or status.tables_total is None else theirs.keeps and whole,
    )


def _of_server(server: _Server, where: str, *, known: bool = False) -> Iterator[Finding]:
    """Look at what any database is upgraded by.

    :param known: the server has been looked at, and only the database is to be.
    """
    if server.prepared and not known:
        yield Finding(
            f"{server.prepared} prepared transactions",
            f"{where}: pg_upgrade refuses such a server",
            "have each committed or rolled back: 'pysync doctor' names those that have been left",
        )
    if server.unanalyzed:
        tables = ", ".join(server.unanalyzed)
        yield Finding(
            f"statistics of {len(server.unanalyzed)} tables",
            f"are missing {where}, as after pg_upgrade",
            run(f"analyze {tables}", where),
            must=False,
        )


def _slots(portal: Connection, courses: list[Course]) -> Iterator[Finding]:
    """Look at slots that no course streams from: pg_upgrade minds them as well."""
    names = {"names": [each.replication_name for each in courses]}
    for name, is_logical, is_consumed in portal.execute(_QUERIES["other_slots"], names).fetchall():
        statement = sql.SQL("select pg_drop_replication_slot({})").format(sql.Literal(name))
        if is_logical and not is_consumed:
            yield Finding(
                f"slot '{name}'",
                f"isn't consumed {ON_PORTAL}, and no course's: pg_upgrade refuses such a server",
                Text("have it consumed, or ") + run(statement.as_string(portal), ON_PORTAL),
            )
        elif not is_logical:
            yield Finding(
                f"slot '{name}'",
                "is a standby's, and stays behind: standbys are made anew after pg_upgrade, and "
                "synchronized_standby_slots must be empty until then",
                "see 'Upgrading a server' in migrations/README.md",
                must=False,
            )


def _copied(course: Course) -> Finding:
    return Finding(
        f"{course.subject} database",
        f"{identities.COPIED}, as by pg_upgrade of its server",
        f"run 'pysync course move {word(course.course_id)} {word(course.conninfo)}' if it is "
        "to go on there",
    )


def _not_streaming(status: CourseStatus) -> Finding:
    return Finding(
        f"course '{status.course_id}'",
        f"is {status.state.value}{f': {status.cause}' if status.cause else ''}",
        status.remedy or "wait until it streams",
    )


def _lost(courses: list[CourseStatus]) -> Finding:
    """Say which courses are lost: what brings them back is one command."""
    return Finding(
        f"{len(courses)} courses",
        f"are lost, '{courses[0].course_id}' as the first: {courses[0].cause}",
        "run 'pysync resync --all'",
    )
