"""Say of each course whether it would go on if the portal's server died now."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from pysync.db.connections import Connection, connect, fetch_value, parse, resolve
from pysync.db.hosts import places
from pysync.db.queries import load
from pysync.replication import standbys
from pysync.replication.standbys import Standby
from pysync.texts import Text
from pysync.watching.status.model import Report
from pysync.watching.status.observation import Observation

_QUERIES: Final = load(__file__)

Ready = tuple[bool | None, str | None]
"""Whether a course would go on, ``None`` if nobody knows; and why not, or why nobody does."""


@dataclass(frozen=True)
class Outlook:
    """What is known of the portal's standbys.

    :param named: those that the connection string names.
    :param connected: whether any is connected to the portal's server.
    """

    named: Sequence[Standby]
    connected: bool

    def of(self, seen: Observation) -> Ready:
        """Return whether a course would go on."""
        course, (_, slot) = seen.course, seen.slots
        if not slot.slot_exists:
            return False, "its slot is missing"
        if not self.named and not self.connected:
            return False, "the portal has no standby"
        if slot.failover is None:
            return False, "the portal's server has no slots that fail over (17 and later have)"
        if not slot.failover:
            return False, "its slot isn't one that fails over"
        if not self.named:
            return None, "the connection string names no standby that could be asked for its slot"
        theirs = parse(course.portal_conninfo)
        if "service" not in theirs and len(places(theirs)) == 1:
            return False, "its subscription knows no other server of the portal's"
        asked = [each for each in self.named if not each.error]
        if not asked:
            return False, f"standby '{self.named[0].place}' {self.named[0].error}"
        causes = filter(None, (_why_not(each, course.replication_name) for each in asked))
        cause = next(causes, None)
        return cause is None, cause


def _why_not(standby: Standby, name: str) -> str | None:
    """Return why a course with a slot of this name wouldn't go on with a standby."""
    found = standby.slots.get(name)
    if found is None or not found.ready:
        return f"its slot isn't on standby '{standby.place}' yet, or no longer"
    if standby.waits_for:
        return f"standby '{standby.place}' would wait for '{standby.waits_for}' itself"
    return None


def look(portal_conninfo: str, names: Sequence[str]) -> list[Standby]:
    """Look at the standbys that the connection string names, if any, in a session of its own.

    :param names: of the courses' slots.
    """
    if len(places(resolve(portal_conninfo))) == 1:
        return []
    with closing(connect(portal_conninfo)) as portal:
        return standbys.look(portal, portal_conninfo, names)


def outlook(portal: Connection, named: Sequence[Standby]) -> Outlook:
    """Return what is known of the portal's standbys.

    :param named: see :func:`look`.
    """
    return Outlook(named, bool(fetch_value(portal, _QUERIES["has_standbys"])))


def unready(found: Report) -> Iterator[Text]:
    """Say which courses wouldn't survive the portal's server, where it has standbys."""
    causes: dict[str | None, list[str]] = {}
    for each in found.courses:
        if found.exposes(each):
            causes.setdefault(each.failover_cause, []).append(each.course_id)
    for cause, (first, *more) in causes.items():
        who = f"{first} and {len(more):,} more" if more else first
        told = f"failover: {who} would stop if the portal's server died now: {cause}; "
        yield Text.plain(told) + Text("run 'pysync doctor'")
