"""The hops that changes take: from the portal to a course, or to a relay and from there to it.

A relay is reported on as courses are, and its row says how the first hop is. A course's says how
the second is; where the first one keeps it from getting anything, it says that instead.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Final, Self

import psycopg
from psycopg import sql

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.db.sql_files import frozen
from pysync.diagnosis.drift import publication_findings
from pysync.errors import PysyncError
from pysync.findings import Finding
from pysync.replication import identities, registry
from pysync.replication.databases import connect_course
from pysync.replication.polling import COURSE_TIMEOUT_SECONDS, ask
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.watching.status import portal as portal_side
from pysync.watching.status.model import State, Verdict
from pysync.watching.status.observation import Observation
from pysync.watching.status.portal import Slot

_QUERIES: Final = load(__file__)

_HARMLESS: Final = (State.STREAMING, State.CATCHING_UP, State.COPYING)


class Publishers:
    """Connections to all that courses stream from: the portal, and the relays that answer."""

    def __init__(self, portal: Connection, courses: Sequence[Course]) -> None:
        self._portal = portal
        self._direct = [course for course in courses if course.relay is None]
        self._of: dict[CourseId, list[Course]] = {}
        for course in courses:
            if course.relay is not None:
                self._of.setdefault(course.relay, []).append(course)
        registered = registry.subscribers(portal) if self._of else []
        relays = [each for each in registered if each.course_id in self._of]
        answers = ask(relays, _connect, seconds=COURSE_TIMEOUT_SECONDS)
        self._relays = {
            relay.course_id: answer
            for relay, answer in zip(relays, answers, strict=True)
            if not isinstance(answer, PysyncError)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._relays.values():
            connection.close()

    def of(self, course: Course) -> Connection | None:
        """Return the connection to what a course streams from; ``None`` if that doesn't answer."""
        return self._portal if course.relay is None else self._relays.get(course.relay)

    def courses(self) -> list[tuple[Connection, list[Course]]]:
        """Return these connections, each with what streams from there."""
        of_relays = [(found, self._of[relay]) for relay, found in self._relays.items()]
        return [(self._portal, self._direct), *of_relays]

    def slots(self) -> dict[str, Slot]:
        """Return what is known of each course's slot where it streams from, by course id.

        Of a course whose relay doesn't answer it is what the portal knows of the relay's, but for
        what that can be without: whether the course's own is there isn't known.
        """
        found = portal_side.read_slots(self._portal)
        for relay, courses in self._of.items():
            for course in courses:
                unknown = replace(found[course.course_id], slot_exists=True, wal_status=None)
                found[course.course_id] = unknown
            with suppress(psycopg.Error):
                if relay in self._relays:
                    names = names_of(courses)
                    rows = portal_side.read_slots(self._relays[relay], on_relay(), names)
                    found |= {i: replace(slot, mark=found[i].mark) for i, slot in rows.items()}
        return found

    def drift(self) -> dict[str, list[Finding]]:
        """Return what is wrong with each course's publication on its relay, by course id."""
        found: dict[str, list[Finding]] = {}
        for relay, connection in self._relays.items():
            with suppress(psycopg.Error):
                found |= publication_findings(connection, self._of[relay])
        return found


def names_of(courses: Sequence[Course]) -> dict[str, list[str]]:
    """Return the courses as the query for what a relay knows of them takes them."""
    return {
        "ids": [each.course_id for each in courses],
        "names": [each.replication_name for each in courses],
    }


@cache
def on_relay() -> sql.SQL:
    """Return the portal's view of slots as a query for a relay, which has no registry."""
    text = frozen("portal")["monitoring/subscription_status.sql"].read_text(encoding="utf-8")
    view = text.partition("with (security_barrier) as\n")[2].partition(";\n")[0]
    registry_of_portal = (
        "from pysync.course\n  left join pysync.course as relay on relay.course_id = course.relay\n"
    )
    assert registry_of_portal in view  # noqa: S101 - it is ours
    courses = _QUERIES["courses_of_relay"].as_string(None).rstrip(";\n")
    here = f"({courses}) as course cross join (select null::text as replication_name) as relay"
    return sql.SQL(f"({view.replace(registry_of_portal, f'from {here}')})")


def _connect(relay: Course) -> Connection:
    connection = connect_course(
        relay.conninfo,
        connect_timeout_seconds=2,
        statement_timeout_seconds=COURSE_TIMEOUT_SECONDS,
    )
    try:
        identities.require_ours(connection, relay.course_id, relay.portal_id, copies=True)
    except BaseException:
        connection.close()
        raise
    return connection


def through(observed: Sequence[Observation], verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts with those courses told of their relay that get nothing because of it."""
    relays = {
        seen.course.course_id: verdict
        for seen, verdict in zip(observed, verdicts, strict=True)
        if seen.course.is_relay
    }
    return [
        _through(seen, verdict, relays) for seen, verdict in zip(observed, verdicts, strict=True)
    ]


def _through(seen: Observation, verdict: Verdict, relays: Mapping[CourseId, Verdict]) -> Verdict:
    relay = seen.course.relay
    if relay is None or relay not in relays:
        return verdict
    of_relay = relays[relay]
    # What has been lost on the way to the relay no mark that arrives brings back.
    concerns = of_relay.state is State.LOST or not seen.arrived
    if not concerns or of_relay.state in _HARMLESS or verdict.state is State.LOST:
        return verdict
    cause = f"'{relay}', which it streams from, is {of_relay.state.value}"
    return replace(
        of_relay,
        cause=f"{cause}: {of_relay.cause}" if of_relay.cause else cause,
        untold=False,
    )
