"""Mend what a verification finds, row by row, while replication goes on."""

from collections import Counter
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count

from pysync.db.connections import Connection
from pysync.db.errors import translated
from pysync.diagnosis import grants
from pysync.errors import ReplicationError
from pysync.migrate import require_head
from pysync.models.replicated import ReplicatedTable
from pysync.replication import registry, witness
from pysync.replication.databases import connect_course
from pysync.replication.fan_out import BACKFILL_BATCH
from pysync.replication.registry import Course
from pysync.types import CourseId, Progress
from pysync.verification import portal as portal_leg
from pysync.verification.compare import Compared, Sides, batched, compare, sides
from pysync.verification.rows import hashes_of
from pysync.verification.settle import settle
from pysync.verification.types import Difference, Kind, Place, Verification
from pysync.verification.verify import STEPS, verify_course


@dataclass(frozen=True)
class Repair:
    """What a repair did, or would do, and what a verification says afterwards.

    :param mended: the rows it found wrong and wrote.
    :param after: ``None`` in a dry run.
    :param unsettled: rows of which nobody can say at the moment whether they are right.
    """

    mended: list[Difference]
    after: Verification | None
    unsettled: int


@dataclass(frozen=True)
class Rebuilt:
    """What rebuilding a course's fan-out did, or would do: its rows that were wrong."""

    course_id: CourseId
    rows: dict[str, int]


def repair(
    portal_conninfo: str,
    course_id: CourseId,
    progress: Progress,
    *,
    dry_run: bool = False,
    with_values: bool = False,
) -> Repair:
    """Mend the rows of a course that differ, where they are wrong.

    Fan-out rows are copied again from the source tables, by the triggers' own functions, and
    replicated. Rows of the course database and of its relay are written there. What is extra in the
    course goes first, since it may hold a username that a row on its way needs.

    :param dry_run: only find out what is wrong.
    :raises UnknownCourseError: if the course isn't registered.
    :raises ReplicationError: if its replication isn't running, or rows couldn't be mended.
    :raises DatabaseUnreachableError: if one side can't be reached.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        require_head(portal)
        course = registry.get(portal, course_id)

    def verified(step: str) -> Verification:
        progress.step(step, STEPS)
        parts = count(1)

        def done() -> None:
            progress.advance(next(parts))

        found = verify_course(portal_conninfo, course, done, with_values=with_values)
        if found.error:
            raise found.error
        return found

    if dry_run:
        found = verified("comparing")
        return Repair(found.differences, None, found.unsettled)
    with translated(f"course '{course_id}'"), sides(portal_conninfo, course) as both:
        work = _Repair(both, progress, with_values)
        relay = _trusted_relay(both)
        work.run()
        repaired_portal = any(each.place is Place.PORTAL for each in work.mended)
    after = verified("verifying")
    if after.clean and repaired_portal:
        # Of what was replicated on the way some met no row: that was us.
        _recount(portal_conninfo, course)
        if relay is not None:
            _recount(portal_conninfo, relay)
    return Repair(work.mended, after, after.unsettled)


def _trusted_relay(both: Sides) -> Course | None:
    """Return a course's relay, unless it is doubted already: it has other courses' rows, too."""
    if both.relay is None:
        return None
    relay, connection = both.relay
    seen = witness.read(connection, relay)
    known = witness.Witness(relay.server_started_at, relay.missed_changes)
    return relay if seen == known else None


def _recount(portal_conninfo: str, course: Course) -> None:
    """Remember how many changes have met no row so far in a course, or a relay."""
    with closing(connect_course(course.conninfo)) as database:
        seen = witness.await_counts(database, course)
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        witness.record_whole(portal, course.course_id, seen)


@dataclass
class _Repair:
    both: Sides
    progress: Progress
    with_values: bool
    mended: list[Difference] = field(default_factory=list)

    def run(self) -> None:
        both, course_id = self.both, self.both.course.course_id
        self.progress.step("comparing")
        on_portal = portal_leg.differences(both.portal, course_id, with_values=self.with_values)
        compared = {table: compare(both, table) for table in both.course.replicated}
        # The fan-out lacks them and the course has them: they are right, and stay with whatever
        # columns the course added. Copied into the fan-out they mustn't be replicated.
        lacking = {(each.table, each.id): each for each in on_portal if each.kind is Kind.MISSING}
        # On the relay alone as well: what is inserted is sent on by it.
        held = self._held(lacking)
        for table, found in compared.items():
            found.extra -= {id_ for name, id_ in held if name == table.name}
        self._mend_extra(compared)
        if on_portal:
            users = {user_id for each in on_portal for user_id in each.user_ids}
            silent = {user_id for key in held for user_id in lacking[key].user_ids}
            _mend_portal(both.portal, course_id, users - silent, self.progress)
            _mend_portal(both.portal, course_id, silent, self.progress, silenced=both.sent)
            self.mended = on_portal + self.mended
            compared = {table: compare(both, table) for table in both.course.replicated}
            self._mend_extra(compared)
        rest = {table: [i for i in f.ids if i not in f.extra] for table, f in compared.items()}
        self._mend(rest, Kind.MISSING, Kind.DIFFERS)

    def _held(self, keys: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those rows that the course, or its relay, has."""
        return {
            (table.name, id_)
            for table in self.both.course.replicated
            for batch in batched((i for name, i in keys if name == table.name), BACKFILL_BATCH)
            for copy in self.both.copies
            for id_ in hashes_of(copy, table, batch)
        }

    def _mend_extra(self, compared: dict[ReplicatedTable, Compared]) -> None:
        """Remove rows from course and relay: those that point at others first."""
        tables = reversed(self.both.course.replicated)
        extra = {table: sorted(compared[table].extra) for table in tables}
        self._mend(extra, Kind.EXTRA)

    def _mend(self, ids: dict[ReplicatedTable, list[int]], *kinds: Kind) -> None:
        total = sum(map(len, ids.values()))
        if not total:
            return
        self.progress.step("mending rows", total)
        done = 0
        for table, candidates in ids.items():
            settled = settle(
                self.both, table, candidates, mending=kinds, with_values=self.with_values
            )
            self.mended += [each for each in settled.differences if each.kind in kinds]
            done += len(candidates)
            self.progress.advance(done)


def _mend_portal(
    portal: Connection,
    course_id: CourseId,
    user_ids: Collection[int],
    progress: Progress,
    *,
    silenced: Course | None = None,
) -> None:
    if not user_ids:
        return
    progress.step("copying to the fan-out", len(user_ids))
    done = 0
    for batch in batched(sorted(user_ids), BACKFILL_BATCH):
        portal_leg.mend(portal, course_id, batch, silenced=silenced)
        done += len(batch)
        progress.advance(done)


def rebuild(
    portal_conninfo: str,
    course_id: CourseId | None,
    progress: Progress,
    *,
    dry_run: bool = False,
) -> list[Rebuilt]:
    """Make the fan-out of one course or all what the source tables say, in batches of users.

    Rows that are right aren't written, so that the courses receive the corrections only.

    :raises UnknownCourseError: if the course isn't registered.
    :raises ReplicationError: if rows differ still.
    """
    rebuilt = []
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        require_head(portal)
        grants.require_own_roles(portal)
        wanted = [registry.get(portal, course_id)] if course_id else registry.courses(portal)
        for course in wanted:
            if not course.fans_out:
                progress.warn(f"course '{course.course_id}' is half removed: passed over")
                continue
            progress.step(f"comparing course '{course.course_id}'")
            found = portal_leg.differences(portal, course.course_id)
            rows = Counter(each.table for each in found)
            rebuilt.append(Rebuilt(course.course_id, dict(rows)))
            if dry_run:
                continue
            users = {user_id for each in found for user_id in each.user_ids}
            _mend_portal(portal, course.course_id, users, progress)
            if users and (left := portal_leg.differences(portal, course.course_id)):
                raise ReplicationError(
                    f"fan-out of course '{course.course_id}' still differs in {len(left)} rows",
                    "run the command again",
                )
    return rebuilt
