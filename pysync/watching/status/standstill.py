"""Tell a course that is behind and gets on from one that stands still, and why it does.

It gets on if the course has applied something: a mark, or a position that it confirms. What was
sent to it, and that its worker is another one now, are no progress. Only while one transaction is
applied does nothing show: then its process has to be the same, and to wait for nobody.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from pysync.db.connections import parse
from pysync.db.holders import Holder
from pysync.findings import IN_COURSE
from pysync.texts import Text
from pysync.watching.status.course import Facts
from pysync.watching.status.model import State, Verdict
from pysync.watching.status.observation import Observation

RESTARTED_SECONDS: Final = 10
"""How recently an apply worker must have connected to count as just restarted."""

HELD_SECONDS: Final = 5
"""How long a transaction must have been open for a first copy that waits for it to be stuck."""

UNTOLD_BYTES: Final = 1024 * 1024
"""Lag that passes for none where no mark could be sent to tell."""

_SEE_LOG: Final = "see 'pysync doctor' and the course server's log"

_STANDBY: Final = {
    "SyncRep": (
        "its apply worker waits for a synchronous standby of the course's server",
        "bring that standby back, or take it out of synchronous_standby_names there",
    ),
    "WaitForStandbyConfirmation": (
        "the portal sends nothing before a standby of its own has it (synchronized_standby_slots)",
        "bring that standby back, or take its slot out of synchronized_standby_slots on the portal",
    ),
}
"""What is said of those who wait for a standby, by wait event, and what mends it."""


def why_behind(seen: Observation, first: Facts, last: Facts) -> Verdict | None:
    """Return what is to be said of a course that is behind; ``None`` if it isn't, or gets on."""
    _, slot = seen.slots
    if seen.mark is None and (slot.lag_bytes or 0) <= 0:
        return None
    gets_on = _gets_on(seen, first, last)
    if not gets_on and (held := _held(seen, "its apply worker")):
        return held
    if last.apply_errors > first.apply_errors:
        return _stuck(f"its apply worker fails again and again ({last.apply_errors} errors)")
    if gets_on:
        return None
    if why := _disconnected(seen, last) or _waiting_for_standby(seen) or _working(seen):
        return why
    if first.worker_pid != last.worker_pid:
        return _stuck("its apply worker ends and is started again, and applies nothing")
    if seen.mark is None:
        return None if (slot.lag_bytes or 0) <= UNTOLD_BYTES else _stuck("it doesn't move")
    return _stuck("its apply worker is connected, and nothing moves")


def _disconnected(seen: Observation, last: Facts) -> Verdict | None:
    before, slot = seen.slots
    errors = last.apply_errors
    just_restarted = (slot.connected_seconds or 0) < RESTARTED_SECONDS
    if errors and slot.slot_active and just_restarted:
        return _stuck(f"its apply worker has just restarted, behind and after {errors} errors")
    if not slot.slot_active and not before.slot_active:
        return _stuck(f"no apply worker is connected ({errors} errors)")
    return None


def _waiting_for_standby(seen: Observation) -> Verdict | None:
    for waits_for in (*(each.waits_for for each in seen.workers[1]), *seen.senders.values()):
        if waits_for in _STANDBY:
            return Verdict(State.STUCK, *_STANDBY[waits_for])
    return None


def why_not_copied(seen: Observation, first: Facts, last: Facts) -> Verdict:
    """Return what is to be said of a course whose first copy isn't complete."""
    gets_on = (last.tables_ready, _rows(last)) != (first.tables_ready, _rows(first))
    if not gets_on and (held := _held(seen, "its first copy", HELD_SECONDS)):
        return held
    if not last.sync_errors:
        return Verdict(State.COPYING)
    fails_now = last.sync_errors > first.sync_errors and last.tables_ready == first.tables_ready
    return Verdict(
        State.STUCK if fails_now else State.COPYING,
        f"{last.sync_errors} tries to copy {', '.join(last.tables_uncopied)} failed",
        _SEE_LOG,
        untold=not last.rows_copied,
    )


def _gets_on(seen: Observation, first: Facts, last: Facts) -> bool:
    before, now = seen.slots
    return (
        grew(before.confirmed_at, now.confirmed_at)
        or grew(before.replayed_at, now.replayed_at)
        or grew(first.applied_at, last.applied_at)
        or grew(first.mark, last.mark)
    )


def _held(seen: Observation, who: str, seconds: float = 0) -> Verdict | None:
    """Return the verdict on processes that wait for somebody else's transaction.

    :param seconds: how long that must have been open.
    """
    in_course, on_portal = seen.holders
    for found, where, conninfo in (
        (in_course, IN_COURSE, seen.course.conninfo),
        (on_portal, seen.course.on_publisher, seen.course.portal_conninfo),
    ):
        if found is None or not _lasts(found, seconds):
            continue
        cause = f"{who} waits for a lock that {found} holds {where}"
        return Verdict(State.STUCK, cause, found.end(where, str(parse(conninfo).get("dbname"))))
    return None


def _lasts(found: Holder, seconds: float) -> bool:
    return found.since is None or datetime.now(UTC) - found.since >= timedelta(seconds=seconds)


def _working(seen: Observation) -> Verdict | None:
    """Return the verdict on a course one of whose processes works on a transaction all the time."""
    before, now = seen.workers
    pids = {each.pid for each in before if each.in_transaction}
    for each in now:
        if each.pid in pids and each.in_transaction and each.waits_for is None:
            since = f" since {each.since:%Y-%m-%d %H:%M:%S%z}" if each.since else ""
            return Verdict(State.CATCHING_UP, f"its apply worker applies one transaction{since}")
    return None


def _rows(facts: Facts) -> int:
    return sum(facts.rows_copied.values())


def grew(before: int | None, now: int | None) -> bool:
    """Return whether a position is known to be another one than before."""
    return before is not None and now is not None and now > before


def _stuck(cause: str) -> Verdict:
    return Verdict(State.STUCK, cause, Text(_SEE_LOG), untold=True)
