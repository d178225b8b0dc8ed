"""Decide what a course's replication is doing, from two looks at it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from pysync.db.connections import parse
from pysync.errors import PysyncError
from pysync.findings import IN_COURSE, Finding, run
from pysync.replication.registry import Course
from pysync.watching.status.course import Blocker, Facts
from pysync.watching.status.model import State
from pysync.watching.status.portal import Mark, Slot

RESTARTED_SECONDS: Final = 10
"""How recently an apply worker must have connected to count as just restarted."""

UNTOLD_BYTES: Final = 1024 * 1024
"""Lag that passes for none where no mark could be sent to tell."""

_SEE_LOG: Final = "see 'pysync doctor' and the course server's log"


@dataclass(frozen=True)
class Look:
    """What two looks found: the first, and the last before the verdict.

    :param mark: the mark that was sent in between, if one was.
    :param seen_at: when the course was last looked at, on our monotonic clock.
    :param arrived: whether that mark, or a later one, was visible by then.
    :param ahead: whether the course knows more than the portal does.
    """

    course: Course
    slots: tuple[Slot, Slot]
    error: PysyncError | None = None
    facts: tuple[Facts, Facts] | None = None
    drift: tuple[Finding, ...] = ()
    blocker: Blocker | None = None
    mark: Mark | None = None
    arrived: bool = False
    seen_at: float = 0
    ahead: bool = False
    database_is_gone: bool = False


@dataclass(frozen=True)
class Verdict:
    """A state with its cause and remedy; ``untold`` if the cause is worth a trial."""

    state: State
    cause: str | None = None
    remedy: str | None = None
    untold: bool = False


def judge(look: Look) -> Verdict:
    """Return a course's state."""
    course, (_, slot) = look.course, look.slots
    quoted = shlex.quote(course.course_id)
    resync = f"run 'pysync resync {quoted}'"
    finish = f"run 'pysync course add {quoted} …' again"
    if not course.fans_out:
        return Verdict(
            State.INCOMPLETE,
            "removal was interrupted",
            f"run 'pysync course remove {quoted} --yes'",
        )
    if course.ready and not slot.slot_exists:
        why = (
            f"was given up by 'pysync guard' at {course.sacrificed_at:%Y-%m-%d %H:%M}"
            if course.sacrificed_at
            else "is missing on the portal"
        )
        return Verdict(
            State.LOST,
            f"its slot {why}: changes are missing in the course{_restored(look)}",
            resync,
        )
    if slot.lost:
        return Verdict(
            State.LOST, "its slot was invalidated: changes are missing in the course", resync
        )
    if look.error is not None or look.facts is None:
        return _unreachable(look)
    _, facts = look.facts
    if look.ahead:
        return Verdict(
            State.LOST,
            "the portal is older than the course, as after a restore from a backup: what it sends "
            "now is passed over",
            resync,
        )
    if facts.owner is not None and facts.owner != course.course_id:
        return Verdict(
            State.ORPHANED,
            f"its database belongs to course '{facts.owner}'",
            f"run 'pysync course move {quoted} CONNINFO' with the database it has",
        )
    if facts.subscription_oid is None:
        if course.ready:
            return Verdict(
                State.ORPHANED,
                "its subscription is missing in the course database: changes aren't fetched",
                resync,
            )
        return Verdict(State.INCOMPLETE, "its subscription is missing", finish)
    if not slot.slot_exists:
        return Verdict(State.INCOMPLETE, "its slot is missing", finish)
    return _stream(look, None if course.ready else finish)


def _restored(look: Look) -> str:
    return (
        "; the portal is older than the course, as after a restore from a backup"
        if look.ahead
        else ""
    )


def _unreachable(look: Look) -> Verdict:
    error = look.error or PysyncError("no answer")
    if look.database_is_gone:
        quoted = shlex.quote(look.course.course_id)
        return Verdict(
            State.UNREACHABLE,
            f"its database '{parse(look.course.conninfo).get('dbname')}' is gone: its server "
            "answers, and the database does not exist there",
            f"restore it, or run 'pysync course remove {quoted} --force --yes' and add the course "
            "again",
        )
    return Verdict(
        State.UNREACHABLE,
        error.message,
        error.remedy or "look after its server and the network; replication goes on by itself",
    )


def _stream(look: Look, finish: str | None) -> Verdict:
    assert look.facts is not None  # noqa: S101 - judged before
    _, facts = look.facts
    drifted = _drifted(look.drift)
    if not facts.enabled:
        return Verdict(
            State.PAUSED,
            "its subscription is disabled",
            finish or f"run 'pysync course resume {shlex.quote(look.course.course_id)}'",
        )
    if facts.tables_ready < len(facts.tables):
        return _copying(look)
    if not look.arrived and (why := _not_moving(look)):
        return why
    if drifted is not None:
        return drifted
    if look.arrived or (look.mark is None and (look.slots[1].lag_bytes or 0) <= UNTOLD_BYTES):
        return Verdict(State.STREAMING)
    return Verdict(State.CATCHING_UP)


def _copying(look: Look) -> Verdict:
    assert look.facts is not None  # noqa: S101 - judged before
    before, facts = look.facts
    if not facts.sync_errors:
        return Verdict(State.COPYING)
    fails_now = facts.sync_errors > before.sync_errors and facts.tables_ready == before.tables_ready
    return Verdict(
        State.STUCK if fails_now else State.COPYING,
        f"{facts.sync_errors} tries to copy {', '.join(facts.uncopied)} failed",
        _SEE_LOG,
        untold=not facts.copied_rows,
    )


def _drifted(drift: tuple[Finding, ...]) -> Verdict | None:
    if not drift:
        return None
    more = f"; and {len(drift) - 1} more differences" if len(drift) > 1 else ""
    return Verdict(State.DRIFTED, f"{drift[0]}{more}", drift[0].remedy)


def _not_moving(look: Look) -> Verdict | None:
    """Return why a course that is behind doesn't move; ``None`` if it does, or isn't behind."""
    assert look.facts is not None  # noqa: S101 - judged before
    (slot_before, slot), (before, facts) = look.slots, look.facts
    errors = facts.apply_errors
    if look.mark is None and (slot.lag_bytes or 0) <= 0:
        return None
    if look.blocker is not None:
        return Verdict(
            State.STUCK,
            f"its apply worker waits for a lock that process {look.blocker.pid} holds in the "
            f"course database ({look.blocker.who}, {look.blocker.doing})",
            "end that transaction, or "
            + run(f"select pg_terminate_backend({look.blocker.pid})", IN_COURSE),
        )
    if errors > before.apply_errors:
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
        or _grew(before.applied_at, facts.applied_at)
        or _grew(before.mark, facts.mark)
        or (before.worker_pid != facts.worker_pid)
        or _grew(before.received_at, facts.received_at)
    ):
        return None
    if look.mark is None:
        return None if (slot.lag_bytes or 0) <= UNTOLD_BYTES else _stuck("it doesn't move")
    return _stuck("its apply worker is connected, and nothing moves")


def _grew(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now > before


def _stuck(cause: str) -> Verdict:
    return Verdict(State.STUCK, cause, _SEE_LOG, untold=True)
