"""Decide what a course's replication is doing, from what was seen of it."""

from datetime import datetime
from typing import Final

from pysync.db.connections import parse
from pysync.errors import ForeignDatabaseError, PysyncError
from pysync.findings import Finding
from pysync.replication import identities
from pysync.texts import word
from pysync.watching.status import crowd
from pysync.watching.status.course import Facts
from pysync.watching.status.model import State, Verdict
from pysync.watching.status.observation import Observation
from pysync.watching.status.standstill import UNTOLD_BYTES, why_behind, why_not_copied

_RESTORED: Final = "the portal is older than the course, as after a restore from a backup"


def judge(seen: Observation) -> Verdict:
    """Return a course's state."""
    course, (_, slot) = seen.course, seen.slots
    argument = word(course.course_id)
    copied = tuple(each for each in seen.drift if each.cause == identities.COPIED)
    # Nothing else is done to a database before it is known to be the course's.
    resync = copied[0].remedy if copied else f"run 'pysync resync {argument}'"
    finish = f"run '{course.command('add')} …' again"
    if not course.fans_out:
        remove = f"run '{course.command('remove --yes')}'"
        return Verdict(State.INCOMPLETE, "removal was interrupted", remove)
    if cause := _lost_on_portal(seen):
        return Verdict(State.LOST, cause, resync)
    if seen.told is not None:
        return crowd.judge(seen, *seen.told)
    if seen.error is not None or seen.first is None or seen.last is None:
        return _unreachable(seen)
    if seen.last.owner is not None and seen.last.owner != course.course_id and not seen.ahead:
        return Verdict(
            State.ORPHANED,
            f"its database belongs to course '{seen.last.owner}'",
            f"run 'pysync course move {argument} CONNINFO' with the database it has",
        )
    if cause := _lost_in_course(seen, seen.first, seen.last):
        return Verdict(State.LOST, cause, resync)
    if copied:
        return _drifted(copied)
    if not seen.last.subscription_exists:
        return _unsubscribed(resync if course.ready else None, finish)
    if not slot.slot_exists:
        return Verdict(State.INCOMPLETE, "its slot is missing", finish)
    resume = f"run 'pysync course resume {argument}'" if course.ready else finish
    return _stream(seen, seen.first, seen.last, resume)


def _unsubscribed(resync: str | None, finish: str) -> Verdict:
    if resync is None:
        return Verdict(State.INCOMPLETE, "its subscription is missing", finish)
    return Verdict(
        State.ORPHANED,
        "its subscription is missing in the course database: changes aren't fetched",
        resync,
    )


def _lost_on_portal(seen: Observation) -> str | None:
    """Return why changes are missing in a course, as far as the portal alone tells."""
    course, (_, slot) = seen.course, seen.slots
    if isinstance(seen.error, ForeignDatabaseError):
        return None  # whatever its slot here is like
    if course.ready and not slot.slot_exists:
        why = (
            f"was given up by 'pysync guard' at {course.sacrificed_at:%Y-%m-%d %H:%M}"
            if course.sacrificed_at
            else f"is missing {course.on_publisher}"
        )
        also = f"; {_RESTORED}" if seen.ahead else ""
        return f"its slot {why}: changes are missing in the course{also}"
    if slot.wal_status == "lost":  # the portal gave up WAL that the course needs
        return "its slot was invalidated: changes are missing in the course"
    return None if seen.told is None else _lost_as_seen(seen)


def _lost_in_course(seen: Observation, first: Facts, last: Facts) -> str | None:
    """Return why changes are missing in a course that was asked."""
    if seen.ahead:
        return f"{_RESTORED}: what it sends now is passed over"
    if last.missing_until is not None:
        since, until = last.missing_since, last.missing_until
        when = f"between {_time(since)} and {_time(until)}" if since else f"before {_time(until)}"
        return f"changes {when} are missing in the course"
    paused_at = seen.course.paused_position
    if (
        paused_at
        and not last.subscription_enabled
        and (seen.slots[1].confirmed_at or 0) > paused_at
    ):
        return "its slot isn't where 'course pause' left it: changes are missing"
    # Read before the course was asked: it had these marks, or never gets them.
    confirmed = seen.slots[0].confirmed_mark or 0
    if (
        seen.course.ready
        and first.altered is None
        and last.tables_ready == last.tables_total
        and (first.mark or 0) < confirmed
    ):
        newest = f" since {_time(first.marked_at)}" if first.marked_at else ""
        return f"its slot has passed over marks that never arrived: changes{newest} are missing"
    return _lost_as_seen(seen)


def _lost_as_seen(seen: Observation) -> str | None:
    """Return that an earlier report saw changes missing that nothing has brought since."""
    if lost_at := seen.course.lost_at:
        return f"changes are missing in the course, as was seen at {_time(lost_at)}"
    return None


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S%z}"


def _unreachable(seen: Observation) -> Verdict:
    error = seen.error or PysyncError("no answer")
    if seen.database_is_gone:
        remove = seen.course.command("remove --force --yes")
        return Verdict(
            State.UNREACHABLE,
            f"its database '{parse(seen.course.conninfo).get('dbname')}' is gone: its server "
            "answers, and the database does not exist there",
            f"restore it, or run '{remove}' and add the course again",
        )
    remedy = error.remedy or "look after its server and the network; replication goes on by itself"
    return Verdict(State.UNREACHABLE, error.message, remedy)


def _stream(seen: Observation, first: Facts, last: Facts, resume: str) -> Verdict:
    if not last.subscription_enabled:
        return Verdict(State.PAUSED, "its subscription is disabled", resume)
    if last.altered:
        return _drifted(seen.drift)
    if last.tables_ready < last.tables_total:
        return why_not_copied(seen, first, last)
    if not seen.arrived and (why := why_behind(seen, first, last)):
        return why
    if seen.drift:
        return _drifted(seen.drift)
    if seen.course.awaits:
        return Verdict(
            State.INCOMPLETE,
            f"it hasn't got the rows of courses that are to move to it: {len(seen.course.awaits)}",
            f"run that move again, or 'pysync resync {word(seen.course.course_id)}'",
        )
    if differs := _differing(seen, last):
        return differs
    if seen.arrived or (seen.mark is None and (seen.slots[1].lag_bytes or 0) <= UNTOLD_BYTES):
        return _streaming(seen)
    return Verdict(State.CATCHING_UP)


def _differing(seen: Observation, last: Facts) -> Verdict | None:
    """Return what says that rows differ, though nothing is wrong with what carries them."""
    # A relay's rows are mended course by course, once it is known of which.
    mend = "verify" if seen.course.is_relay else "repair"
    remedy = f"run 'pysync {mend} {word(seen.course.course_id)}'"
    if seen.verified is not None and seen.verified[1]:
        at, rows = seen.verified
        return Verdict(
            State.DRIFTED,
            f"{rows} rows differed, or couldn't be settled, when it was verified at {_time(at)}",
            remedy,
        )
    before, now = seen.course.missed_changes or 0, last.missed_changes or 0
    # Statistics may have been reset: then all that are counted are new.
    if missed := now - before if now >= before else now:
        return Verdict(
            State.DRIFTED, f"{missed} changes met no row in the course: rows are missing", remedy
        )
    return None


def unverified_since(seen: Observation) -> datetime | None:
    """Return since when a course may have lost what its server hadn't flushed; nothing tells."""
    trusted, now = seen.course.server_started_at, seen.last and seen.last.server_started_at
    return now if seen.course.ready and trusted and now != trusted else None


def _streaming(seen: Observation) -> Verdict:
    since = unverified_since(seen)
    if since is None:
        return Verdict(State.STREAMING)
    return Verdict(
        State.STREAMING,
        f"unverified since {_time(since)}, when its server was started anew",
        f"run 'pysync verify {word(seen.course.course_id)}'",
    )


def _drifted(drift: tuple[Finding, ...]) -> Verdict:
    more = f"; and {len(drift) - 1} more differences" if len(drift) > 1 else ""
    return Verdict(State.DRIFTED, f"{drift[0]}{more}", drift[0].remedy)
