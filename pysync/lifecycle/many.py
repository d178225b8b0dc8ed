"""The same for many courses, some at a time: one that fails doesn't stop the others.

Nothing records how far a run came: each course is what it is, and whoever was killed runs it again.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

from pysync.diagnosis import checks
from pysync.errors import DatabaseUnreachableError, PysyncError
from pysync.findings import Finding
from pysync.lifecycle import courses
from pysync.lifecycle import resync as merging
from pysync.lifecycle.courses import Added
from pysync.migrate import require_head
from pysync.replication import identities, publishers, registry
from pysync.replication.databases import Sessions, connect_course
from pysync.replication.merge import Outcome
from pysync.replication.polling import JOBS, ask, server_of
from pysync.replication.registry import Course
from pysync.texts import Text
from pysync.types import CourseId, Progress, Unwatched

R = TypeVar("R")

WAITING: Final = 100
"""How many courses are attached before they are started: their slots keep WAL meanwhile.

While they wait there is no WAL sender of theirs that would decode what others' addition writes.
"""


@dataclass(frozen=True)
class Wanted:
    """A course that is to be added, with the arguments of :func:`pysync.lifecycle.courses.add`."""

    course_id: CourseId
    conninfo: str
    portal_conninfo_for_course: str | None = None


class _OfOne:
    """Progress of one course among many: only its warnings are passed on, each once for all."""

    def __init__(self, course_id: CourseId, progress: Progress, told: set[str]) -> None:
        self._course_id, self._progress, self._told = course_id, progress, told

    def step(self, description: str, total: int | None = None) -> None:
        """Say nothing."""

    def advance(self, done: int) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Pass a warning on, and whose it is."""
        if message not in self._told:
            self._told.add(message)
            self._progress.warn(Text.plain(f"course '{self._course_id}': ") + message)


def add(
    portal_conninfo: str,
    wanted: Sequence[Wanted],
    progress: Progress,
    heard: Callable[[CourseId, Added | PysyncError], None],
    *,
    jobs: int = JOBS,
    keep_owner: bool = False,
    durable: bool = False,
    relay: CourseId | None = None,
    dry_run: bool = False,
) -> None:
    """Add courses; what isn't as needed for all of them is refused before the first is touched.

    :param heard: is told what became of each, as soon as it is known.
    :param jobs: how many at a time.
    :raises PysyncError: if servers have no room for them, or the portal isn't as needed.
    """
    _require_room(portal_conninfo, wanted, jobs, relay)
    by_id = {each.course_id: each for each in wanted}
    told: set[str] = set()
    reached: set[tuple[int, str]] = set()
    waiting: dict[CourseId, Added] = {}

    def attach(course: Course) -> Added:
        one = by_id[course.course_id]
        with sessions.one() as session:
            return courses.add(
                portal_conninfo,
                one.course_id,
                one.conninfo,
                _OfOne(one.course_id, progress, told),
                portal_conninfo_for_course=one.portal_conninfo_for_course,
                keep_owner=keep_owner,
                durable=durable,
                relay=relay,
                dry_run=dry_run,
                reached=reached,
                waits=True,
                session=session,
            )

    def finish(course: Course) -> Added:
        with sessions.one() as session:
            return courses.finish(portal_conninfo, session, waiting[course.course_id])

    def attached(course_id: CourseId, answer: Added | PysyncError) -> None:
        if isinstance(answer, Added) and answer.rest is not None:
            waiting[course_id] = answer
        else:
            heard(course_id, answer)

    to_add = [Course(each.course_id, "", each.conninfo, "", "") for each in wanted]
    with closing(Sessions(portal_conninfo, registry.connect_portal)) as sessions:
        for start in range(0, len(to_add), WAITING):
            some = to_add[start : start + WAITING]
            progress.step("checking courses" if dry_run else "adding courses", len(some))
            _each(some, attach, progress, attached, jobs)
            progress.step("starting courses", len(waiting))
            _each(
                [*filter(lambda each: each.course_id in waiting, some)],
                finish,
                progress,
                heard,
                jobs,
            )
            waiting.clear()


def _require_room(
    portal_conninfo: str, wanted: Sequence[Wanted], jobs: int, relay: CourseId | None
) -> None:
    """Refuse what a server has no room for: better now than when half of it is done.

    :raises PysyncError: if one hasn't, or the portal isn't as needed.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        require_head(portal)
        identities.require_claimed(portal)
        known = {each.course_id: each for each in registry.subscribers(portal)}
        new = [each for each in wanted if each.course_id not in known]
        if not new:
            return
        at_once = min(jobs, len(new))
        with publishers.opened(
            portal_conninfo, portal, Course(new[0].course_id, "", "", "", "", relay=relay)
        ) as publisher:
            there = sum(each.relay == relay for each in known.values())
            sender = publisher.connection
            others = there + len(new) - at_once
            _refuse(checks.portal_server(sender, others, adds=at_once, relay=publisher.relay))
    servers: dict[Hashable, list[Wanted]] = {}
    for each in new:
        servers.setdefault(server_of(each.conninfo), []).append(each)
    for of_server in servers.values():
        # One that can't be reached is told of course by course.
        with (
            suppress(DatabaseUnreachableError),
            closing(connect_course(of_server[0].conninfo)) as database,
        ):
            _refuse(checks.course_server(database, adds=len(of_server)))


def _refuse(findings: Iterable[Finding]) -> None:
    # What could only be better each course tells by itself.
    checks.enforce((each for each in findings if each.must), Unwatched())


def paused(portal_conninfo: str) -> set[CourseId]:
    """Return the courses that 'course pause' has stopped."""
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        found = registry.courses(portal)
    return {each.course_id for each in found if each.paused_position is not None}


def resync(
    portal_conninfo: str,
    course_ids: Sequence[CourseId],
    progress: Progress,
    heard: Callable[[CourseId, Outcome | PysyncError], None],
    *,
    jobs: int = JOBS,
    portal_conninfo_for_course: str | None = None,
    table: str | None = None,
    dry_run: bool = False,
) -> None:
    """Resynchronise courses, those first that are named first.

    :param heard: is told what became of each, as soon as it is known.
    :param jobs: how many at a time; each takes two slots more on the portal meanwhile.
    :raises UnknownCourseError: if one isn't registered.
    :raises PysyncError: if the portal isn't as needed.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        require_head(portal)
        identities.require_claimed(portal)
        wanted = [registry.get(portal, each) for each in dict.fromkeys(course_ids)]
    told: set[str] = set()

    def work(course: Course) -> Outcome:
        one = _OfOne(course.course_id, progress, told)
        if dry_run:
            return merging.preview(portal_conninfo, course.course_id, one, table=table)
        return merging.resync(
            portal_conninfo,
            course.course_id,
            one,
            table=table,
            portal_conninfo_for_course=portal_conninfo_for_course,
        )

    progress.step("comparing courses" if dry_run else "resynchronising courses", len(wanted))
    _each(wanted, work, progress, heard, jobs)


def _each(
    courses: Sequence[Course],
    work: Callable[[Course], R],
    progress: Progress,
    heard: Callable[[CourseId, R | PysyncError], None],
    jobs: int,
) -> None:
    done = count(1)

    def hear(course: Course, answer: R | PysyncError) -> None:
        progress.advance(next(done))
        heard(course.course_id, answer)

    # What others stream from comes first: it is to be whole before they are.
    for relays in (True, False):
        now = [each for each in courses if each.is_relay is relays]
        ask(now, work, at_once=jobs, heard=hear)
