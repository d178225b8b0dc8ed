"""Decide what a course's replication is doing, from what was seen of it."""

from dataclasses import dataclass
from typing import Final

from pysync.db.connections import parse
from pysync.errors import PysyncError
from pysync.findings import IN_COURSE, Finding, run
from pysync.texts import quoted, word
from pysync.watching.status.course import Facts
from pysync.watching.status.model import State
from pysync.watching.status.observe import Observation

RESTARTED_SECONDS: Final = 10
"""How recently an apply worker must have connected to count as just restarted."""

UNTOLD_BYTES: Final = 1024 * 1024
"""Lag that passes for none where no mark could be sent to tell."""

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
    restored = "the portal is older than the course, as after a restore from a backup"
    if not course.fans_out:
        remove = f"run 'pysync course remove --yes {argument}'"
        return Verdict(State.INCOMPLETE, "removal was interrupted", remove)
    if course.ready and not slot.slot_exists:
        why = (
            f"was given up by 'pysync guard' at {course.sacrificed_at:%Y-%m-%d %H:%M}"
            if course.sacrificed_at
            else "is missing on the portal"
        )
        also = f"; {restored}" if seen.ahead else ""
        cause = f"its slot {why}: changes are missing in the course{also}"
        return Verdict(State.LOST, cause, resync)
    if slot.wal_status == "lost":  # the portal gave up WAL that the course needs
        cause = "its slot was invalidated: changes are missing in the course"
        return Verdict(State.LOST, cause, resync)
    if seen.error is not None or seen.first is None or seen.last is None:
        return _unreachable(seen)
    if seen.ahead:
        return Verdict(State.LOST, f"{restored}: what it sends now is passed over", resync)
    if seen.last.owner is not None and seen.last.owner != course.course_id:
        return Verdict(
            State.ORPHANED,
            f"its database belongs to course '{seen.last.owner}'",
            f"run 'pysync course move {argument} CONNINFO' with the database it has",
        )
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
    if seen.arrived or (seen.mark is None and (seen.slots[1].lag_bytes or 0) <= UNTOLD_BYTES):
        return Verdict(State.STREAMING)
    return Verdict(State.CATCHING_UP)


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
