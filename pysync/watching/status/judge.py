"""Decide what a course's replication is doing, from what was seen of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pysync.db.connections import parse
from pysync.errors import ForeignDatabaseError, PysyncError
from pysync.findings import IN_COURSE, Finding, run
from pysync.texts import quoted, word
from pysync.watching.status.course import Facts
from pysync.watching.status.model import State
from pysync.watching.status.observe import Observation

RESTARTED_SECONDS: Final = 10
"""How recently an apply worker must have connected to count as just restarted."""

UNTOLD_BYTES: Final = 1024 * 1024
"""Lag that passes for none where no mark could be sent to tell."""

_RESTORED: Final = "the portal is older than the course, as after a restore from a backup"
_SEE_LOG: Final = "see 'pysync doctor' and the course server's log"


@dataclass(frozen=True)
class Verdict:
    """A state with its cause and remedy; ``untold`` if the cause is worth a trial."""

    state: State
    cause: str | None = None
    remedy: str | None = None
    untold: bool = False


def judge(seen: Observation) -> Verdict:
    """Return a course's state."""
    course, (_, slot) = seen.course, seen.slots
    argument = word(course.course_id)
    resync = f"run 'pysync resync {argument}'"
    finish = f"run 'pysync course add {argument} …' again"
    if not course.fans_out:
        remove = f"run 'pysync course remove --yes {argument}'"
        return Verdict(State.INCOMPLETE, "removal was interrupted", remove)
    if cause := _lost_on_portal(seen):
        return Verdict(State.LOST, cause, resync)
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
    if not seen.last.subscription_exists:
        if course.ready:
            return Verdict(
                State.ORPHANED,
                "its subscription is missing in the course database: changes aren't fetched",
                resync,
            )
        return Verdict(State.INCOMPLETE, "its subscription is missing", finish)
    if not slot.slot_exists:
        return Verdict(State.INCOMPLETE, "its slot is missing", finish)
    resume = f"run 'pysync course resume {argument}'" if course.ready else finish
    return _stream(seen, seen.first, seen.last, resume)


def _lost_on_portal(seen: Observation) -> str | None:
    """Return why changes are missing in a course, as far as the portal alone tells."""
    course, (_, slot) = seen.course, seen.slots
    if isinstance(seen.error, ForeignDatabaseError):
        return None  # whatever its slot here is like
    if course.ready and not slot.slot_exists:
        why = (
            f"was given up by 'pysync guard' at {course.sacrificed_at:%Y-%m-%d %H:%M}"
            if course.sacrificed_at
            else "is missing on the portal"
        )
        also = f"; {_RESTORED}" if seen.ahead else ""
        return f"its slot {why}: changes are missing in the course{also}"
    if slot.wal_status == "lost":  # the portal gave up WAL that the course needs
        return "its slot was invalidated: changes are missing in the course"
    return None


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
    if lost_at := seen.course.lost_at:
        return f"changes are missing in the course, as was seen at {_time(lost_at)}"
    return None


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S%z}"


def _unreachable(seen: Observation) -> Verdict:
    error = seen.error or PysyncError("no answer")
    if seen.database_is_gone:
        argument = word(seen.course.course_id)
        return Verdict(
            State.UNREACHABLE,
            f"its database '{parse(seen.course.conninfo).get('dbname')}' is gone: its server "
            "answers, and the database does not exist there",
            f"restore it, or run 'pysync course remove --force --yes {argument}' and add the "
            "course again",
        )
    remedy = error.remedy or "look after its server and the network; replication goes on by itself"
    return Verdict(State.UNREACHABLE, error.message, remedy)


def _stream(seen: Observation, first: Facts, last: Facts, resume: str) -> Verdict:
    if not last.subscription_enabled:
        return Verdict(State.PAUSED, "its subscription is disabled", resume)
    if last.altered:
        return _drifted(seen.drift)
    if last.tables_ready < last.tables_total:
        return _copying(first, last)
    if not seen.arrived and (why := _not_moving(seen, first, last)):
        return why
    if seen.drift:
        return _drifted(seen.drift)
    if differs := _differing(seen, last):
        return differs
    if seen.arrived or (seen.mark is None and (seen.slots[1].lag_bytes or 0) <= UNTOLD_BYTES):
        return _streaming(seen)
    return Verdict(State.CATCHING_UP)


def _differing(seen: Observation, last: Facts) -> Verdict | None:
    """Return what says that rows differ, though nothing is wrong with what carries them."""
    remedy = f"run 'pysync repair {word(seen.course.course_id)}'"
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


def _copying(first: Facts, last: Facts) -> Verdict:
    if not last.sync_errors:
        return Verdict(State.COPYING)
    fails_now = last.sync_errors > first.sync_errors and last.tables_ready == first.tables_ready
    return Verdict(
        State.STUCK if fails_now else State.COPYING,
        f"{last.sync_errors} tries to copy {', '.join(last.tables_uncopied)} failed",
        _SEE_LOG,
        untold=not last.rows_copied,
    )


def _drifted(drift: tuple[Finding, ...]) -> Verdict:
    more = f"; and {len(drift) - 1} more differences" if len(drift) > 1 else ""
    return Verdict(State.DRIFTED, f"{drift[0]}{more}", drift[0].remedy)


def _not_moving(seen: Observation, first: Facts, last: Facts) -> Verdict | None:
    """Return why a course that is behind doesn't move; ``None`` if it does, or isn't behind."""
    slot_before, slot = seen.slots
    errors = last.apply_errors
    if seen.mark is None and (slot.lag_bytes or 0) <= 0:
        return None
    if seen.blocker is not None:
        return Verdict(
            State.STUCK,
            f"its apply worker waits for a lock that process {seen.blocker.pid} holds in the "
            f"course database ({quoted(seen.blocker.who)}, {seen.blocker.doing})",
            "end that transaction, or "
            + run(f"select pg_terminate_backend({seen.blocker.pid})", IN_COURSE),
        )
    if errors > first.apply_errors:
        return _stuck(f"its apply worker fails again and again ({errors} errors)")
    just_restarted = (slot.connected_seconds or 0) < RESTARTED_SECONDS
    if errors and slot.slot_active and just_restarted:
        return _stuck(f"its apply worker has just restarted, behind and after {errors} errors")
    if not slot.slot_active and not slot_before.slot_active:
        return _stuck(f"no apply worker is connected ({errors} errors)")
    if (
        _grew(slot_before.confirmed_at, slot.confirmed_at)
        or _grew(slot_before.replayed_at, slot.replayed_at)
        or _grew(slot_before.sent_at, slot.sent_at)
        or _grew(first.applied_at, last.applied_at)
        or _grew(first.mark, last.mark)
        or (first.worker_pid != last.worker_pid)
        or _grew(first.received_at, last.received_at)
    ):
        return None
    if seen.mark is None:
        return None if (slot.lag_bytes or 0) <= UNTOLD_BYTES else _stuck("it doesn't move")
    return _stuck("its apply worker is connected, and nothing moves")


def _grew(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now > before


def _stuck(cause: str) -> Verdict:
    return Verdict(State.STUCK, cause, _SEE_LOG, untold=True)
