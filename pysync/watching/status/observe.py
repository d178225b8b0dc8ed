"""Observe all courses at once: each twice if need be, with a mark sent in between."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from pysync.db import holders
from pysync.db.connections import Connection
from pysync.diagnosis.drift import course_drift
from pysync.errors import DatabaseUnreachableError, PysyncError
from pysync.replication import processes
from pysync.replication.polling import (
    COURSE_TIMEOUT_SECONDS,
    REFUSAL_SECONDS,
    Databases,
    LateError,
    ask,
    server_of,
)
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.watching.status import crowd, hearsay
from pysync.watching.status.course import is_gone, read_facts, read_mark, read_strangers
from pysync.watching.status.hops import Publishers
from pysync.watching.status.marking import Marks
from pysync.watching.status.observation import Observation

ARRIVAL_SECONDS: Final = 0.8
"""How long a mark may take before a course counts as behind."""

PATIENCE_SECONDS: Final = 1.8
"""The same where the apply worker is connected and without errors: a busy server is no failure."""

_CROWDED_SECONDS: Final = 0.15
"""How long a mark is waited for where others wait for their turn to connect."""

_COPYING_SECONDS: Final = 0.3
_SLACK_SECONDS: Final = 0.5


def observe(
    portal: Connection,
    publishers: Publishers,
    wanted: Sequence[Course],
    known: list[str],
    looks: Mapping[CourseId, datetime],
) -> list[Observation]:
    """Ask all courses, send each a mark, and ask again whose mark doesn't arrive.

    :param publishers: what they stream from.
    :param looks: when reports last looked into them.
    :param known: the replication names of all registered courses.
    """
    before = publishers.slots()
    nowhere = PysyncError("it isn't known where its database is")
    seen = {
        course.course_id: Observation(
            course,
            (before[course.course_id],) * 2,
            error=None if course.fans_out and course.conninfo else nowhere,
        )
        for course in wanted
    }
    with closing(Databases([each.course for each in seen.values() if not each.error])) as databases:
        crowds = crowd.spared(databases, [s.course for s in seen.values() if not s.error], before)
        spared = {course_id for each in crowds for course_id in each.spared}
        well = hearsay.gathered(databases, seen, spared, looks)
        spared.update(each.course_id for of_server in well for each in of_server.spared)
        asked = [s for i, s in seen.items() if not s.error and i not in spared]
        marks = Marks(portal, wanted, before, len(asked))
        look = partial(_look, databases, known=known, told=set(), marks=marks)
        seen |= look(asked)
        # No sooner: all of their marks at once would keep the others waiting.
        marks.send_unasked([i for of_server in well for i in of_server.unseen(seen)])
        for of_server in well:
            seen |= hearsay.heard(of_server, seen, marks.sent, marks.sent_at, looks)
        unheard = [seen[i] for of_server in well for i in of_server.unheard(seen)]
        marks.ask_also(len(unheard))
        seen |= look(unheard)
        marks.finish()
        seen = {
            i: replace(s, mark=marks.sent.get(i), ahead=i in marks.ahead) for i, s in seen.items()
        }
        for each in crowds:
            now = before | publishers.slots()
            seen |= crowd.settle(databases, each, seen, before, now)
            # Who gets on, or didn't answer in time: its server does.
            again = [replace(s, error=None) for s in seen.values() if each.has_still_to_ask(s)]
            seen |= look(again)
        if undecided := [each for each in seen.values() if each.undecided]:
            # In a crowd nobody has waited for long, where no mark could be sent nobody at all.
            time.sleep(max(marks.sent_at + ARRIVAL_SECONDS - time.monotonic(), 0))
            seen |= _round(databases, undecided, _ask_again, PATIENCE_SECONDS)
    for missed in [each for each in seen.values() if each.missed]:
        if (publisher := publishers.of(missed.course)) is not None:
            seen[missed.course.course_id] = _ask_publisher(publisher, missed)
    after = before | publishers.slots()
    return [replace(each, slots=(before[i], after[i])) for i, each in seen.items()]


def _ask_publisher(publisher: Connection, seen: Observation) -> Observation:
    """See whom the processes that send to a course wait for."""
    senders = processes.senders(publisher, seen.course)
    found = holders.holder(publisher, list(senders))
    return replace(seen, senders=senders, holders=(seen.holders[0], found))


def _round(
    databases: Databases,
    asked: Sequence[Observation],
    question: Callable[[Connection, Observation], Observation],
    seconds: float,
) -> dict[CourseId, Observation]:
    """Ask these courses at once, and return what is seen of them by now."""
    seen = {each.course.course_id: each for each in asked}

    def in_database(course: Course) -> Observation:
        began = time.monotonic()
        try:
            with databases.connection(course) as database:
                return question(database, seen[course.course_id])
        except DatabaseUnreachableError as error:
            # A server without the database says so at once; of one that hangs more isn't learned.
            gone = time.monotonic() - began < REFUSAL_SECONDS and is_gone(course)
            return replace(seen[course.course_id], error=error, database_is_gone=gone)

    answers = ask([each.course for each in asked], in_database, seconds=seconds)
    return {
        i: replace(each, error=answer) if isinstance(answer, PysyncError) else answer
        for (i, each), answer in zip(seen.items(), answers, strict=True)
    }


def _look(
    databases: Databases,
    asked: Sequence[Observation],
    *,
    known: list[str],
    told: set[Hashable],
    marks: Marks,
) -> dict[CourseId, Observation]:
    """See what these courses say, send each a mark and wait for it, all in one session of each."""
    looked: dict[CourseId, Observation] = {}

    def question(database: Connection, seen: Observation) -> Observation:
        end = time.monotonic() + COURSE_TIMEOUT_SECONDS - _SLACK_SECONDS
        course_id = seen.course.course_id
        seen = looked[course_id] = _ask(database, seen, known=known, told=told)
        if seen.first is not None:
            marks.send(course_id, seen.first)
        seen = replace(seen, mark=marks.sent.get(course_id), ahead=course_id in marks.ahead)
        if not seen.undecided:
            return seen
        return _await(database, seen, end, crowded=databases.crowded)

    found = _round(databases, asked, question, databases.timeout_seconds)
    # Of whom something is known only the wait was cut short.
    late = [i for i, each in found.items() if isinstance(each.error, LateError) and i in looked]
    return found | {i: looked[i] for i in late}


def _ask(
    database: Connection, seen: Observation, *, known: list[str], told: set[Hashable]
) -> Observation:
    """See what a course's database says, and once of each server what isn't known there.

    :param told: the servers that have said so.
    """
    first = read_facts(database, seen.course)
    strangers: tuple[tuple[str, str], ...] = ()
    server = server_of(seen.course.conninfo)
    if server not in told:
        told.add(server)
        try:
            strangers = read_strangers(database, known)
        except BaseException:
            told.discard(server)
            raise
    drift, fingerprint = [first.altered] if first.altered else [], None
    # Of another course's database no more is to be said than whose it is.
    if first.owner == seen.course.course_id or first.altered:
        found = course_drift(database, seen.course, first.revision)
        drift, fingerprint = drift + found.findings, found.fingerprint
    return replace(
        seen,
        first=first,
        last=first,
        drift=tuple(drift),
        fingerprint=fingerprint,
        strangers=strangers,
        seen_at=time.monotonic(),
    )


def _await(database: Connection, seen: Observation, end: float, *, crowded: bool) -> Observation:
    """Wait for the mark that was sent, or see whether first copies get on."""
    sent_at = time.monotonic()
    first = seen.first
    if first is None or seen.mark is None:
        return seen
    if first.tables_ready < first.tables_total:
        # Marks arrive once all is copied; whether tries to copy fail shows in a while.
        time.sleep(_COPYING_SECONDS)
        seen = replace(seen, last=read_facts(database, seen.course), seen_at=time.monotonic())
        return _with_workers(database, seen)
    pause_seconds = 0.02 if crowded else 0.002  # a look too early costs what others wait for
    if (seen := _until(database, seen, sent_at + _CROWDED_SECONDS, pause_seconds)).arrived:
        return seen
    seen = _with_workers(database, seen)
    healthy = seen.slots[0].slot_active and not first.apply_errors
    patience = PATIENCE_SECONDS if healthy else ARRIVAL_SECONDS
    return seen if crowded else _until(database, seen, min(sent_at + patience, end), pause_seconds)


def _until(
    database: Connection, seen: Observation, end: float, pause_seconds: float
) -> Observation:
    """Wait for the mark that was sent."""
    while not seen.arrived and time.monotonic() <= end:
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.5, 0.05)
        seen = _with_mark(database, seen)
    return seen


def _ask_again(database: Connection, seen: Observation) -> Observation:
    if (seen := _with_mark(database, seen)).arrived:
        return seen
    last = read_facts(database, seen.course)
    seen = replace(seen, last=last, seen_at=time.monotonic())
    return _with_workers(database, seen)


def _with_workers(database: Connection, seen: Observation) -> Observation:
    now = processes.workers(database, seen.course)
    found = holders.holder(database, [each.pid for each in now])
    return replace(seen, workers=(seen.workers[1], now), holders=(found, seen.holders[1]))


def _with_mark(database: Connection, seen: Observation) -> Observation:
    mark = read_mark(database, seen.course)
    arrived = seen.mark is not None and mark is not None and mark >= seen.mark.number
    return replace(seen, arrived=arrived, seen_at=time.monotonic())
