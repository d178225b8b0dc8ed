"""What still differs is looked at under locks, where being late is no explanation.

Whatever changes what a course holds of a user locks the user's row, the profile's or the copy's on
the portal first. While we hold all of them, nothing that concerns these rows can be committed, and
nothing can be half committed (written to WAL and decoded already, but not visible yet: with
synchronous standbys that may take a while). So once a mark sent meanwhile has arrived, the course
has what the portal has, or never gets it; and what is written in the course then, the apply worker
doesn't touch.

A row of a user whom the portal doesn't know can't be locked. If it is there by a transaction that
isn't visible on the portal yet, that transaction was running when the row was seen in the course.
So all that ran then are waited for, and the portal is read after that: if it hasn't the row, it was
inserted by nobody or deleted again, and after one more mark only the former is possible.
"""

import time
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from psycopg import errors, sql

from pysync.db.connections import fetch_value
from pysync.errors import WaitTimeoutError
from pysync.models.replicated import ReplicatedTable
from pysync.replication import fan_out, merge, publications
from pysync.replication.erasure import personal_data_left
from pysync.verification.compare import Sides, batched
from pysync.verification.rows import Row, Source, rows_of
from pysync.verification.types import Difference, Kind, Place

ROWS_LOCKED: Final = 100
LOCK_MILLISECONDS: Final = 500
"""Less than deadlock_timeout: if an application and we wait for each other, we give in."""

HELD_SECONDS: Final = 2
"""How long a mark may take while we hold locks."""

TRIES: Final = 5
"""How often one row is tried that somebody else holds."""

PATIENCE_SECONDS: Final = 30
"""How long rows of a table that somebody else holds are tried altogether."""

SNAPSHOT_SECONDS: Final = 5
"""How long older transactions on the portal are waited for."""

_BRIEFLY: Final = sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_MILLISECONDS))
_BUSY: Final = (errors.LockNotAvailable, errors.DeadlockDetected, WaitTimeoutError)


def settle(
    sides: Sides,
    table: ReplicatedTable,
    ids: list[int],
    *,
    mending: Collection[Kind] = (),
    with_values: bool = False,
) -> "Settled":
    """Decide which rows differ for certain.

    :param ids: candidates, from :func:`pysync.verification.compare.compare`.
    :param mending: what to mend on the way, in the course and on its relay.
    """
    settled = Settled(sides, table, mending, with_values)
    settled.run(ids)
    return settled


@dataclass
class Settled:
    """What was found behind locks, and mended if that was asked for."""

    sides: Sides
    table: ReplicatedTable
    mending: Collection[Kind]
    with_values: bool
    differences: list[Difference] = field(default_factory=list)
    kept: int = 0
    unsettled: int = 0
    patience_seconds: float = PATIENCE_SECONDS
    in_vain: bool = False  # transactions that were waited for didn't end

    def run(self, ids: list[int]) -> None:
        """Settle rows in batches; one that is held by somebody doesn't hold up its batch."""
        waiting = deque((batch, 1) for batch in batched(ids, ROWS_LOCKED))
        while waiting:
            batch, attempt = waiting.popleft()
            began = time.monotonic()
            held = self._settle(batch)
            if not held:
                continue
            self.patience_seconds -= time.monotonic() - began
            if self.patience_seconds < 0 or (len(held) == 1 and attempt == TRIES):
                self.unsettled += len(held)
            elif len(held) > 1:
                half = len(held) // 2
                waiting.extend([(held[:half], 1), (held[half:], 1)])
            else:
                time.sleep(LOCK_MILLISECONDS / 1000)
                waiting.append((held, attempt + 1))

    def _settle(self, ids: list[int]) -> list[int]:
        """Settle rows; returns the ids of those that somebody else holds."""
        sides = self.sides
        sides.fence()  # so that the next one, behind locks, is short
        ours = rows_of(sides.fan_out, self.table, ids)
        copies = [rows_of(copy, self.table, ids) for copy in sides.copies]
        user_ids = sorted({row.user_id for side in (ours, *copies) for row in side.values()})
        query = "select id::bigint from public.auth_user where id = any (%s)"
        with fan_out.as_triggers(sides.portal) as triggers:
            known = {user_id for (user_id,) in triggers.fetch(query, "id bigint", (user_ids,))}
        strange = {
            i for side in copies for i in side if i not in ours and side[i].user_id not in known
        }
        strangers, others = sorted(strange), sorted({*ids} - strange)
        if strangers and not self._await_transactions():
            self.unsettled += len(strangers)
            strangers = []
        held: list[int] = []
        for group in (strangers, others):
            try:
                if group:
                    held += self._look(group, user_ids)
            except _BUSY:
                held += group
        return held

    def _look(self, ids: list[int], user_ids: list[int]) -> list[int]:
        """Compare rows behind locks, and mend them; returns ids of rows that have moved."""
        sides, table = self.sides, self.table
        with fan_out.as_triggers(sides.portal) as triggers, ExitStack() as stack:
            sides.portal.execute(_BRIEFLY)
            triggers.execute("select course.claim_members(%s)", (user_ids,))
            ours = rows_of(sides.fan_out, table, ids, lock="for share")
            sides.fence(HELD_SECONDS)
            copies = []
            for copy in sides.copies:
                stack.enter_context(copy.connection.transaction())
                copy.connection.execute(_BRIEFLY)
                lock = "for update" if self.mending else ""
                copies.append((copy, rows_of(copy, table, ids, lock=lock)))
            # Somebody else's now, whom we didn't lock?
            moved = {
                id_
                for side in (ours, *(theirs for _, theirs in copies))
                for id_, row in side.items()
                if row.user_id not in user_ids
            }
            settled = sorted({*ids} - moved)
            found = [self._compare(copy, settled, ours, theirs) for copy, theirs in copies]
        for wrong, kept in found:
            self.differences += wrong
            self.kept += kept
        return sorted(moved)

    def _compare(
        self, copy: Source, ids: list[int], ours: Mapping[int, Row], theirs: Mapping[int, Row]
    ) -> tuple[list[Difference], int]:
        """Compare locked rows, and mend them; returns what differs, and how many users stay."""
        compared = [self._difference(copy.place, i, ours.get(i), theirs.get(i)) for i in ids]
        found = [each for each in compared if each is not None]
        kept = self._kept(found) if copy.place is Place.COURSE else set()
        wrong = [each for each in found if each.id not in kept]
        if to_mend := [each for each in wrong if each.kind in self.mending]:
            rows = [ours[each.id].values for each in to_mend if each.id in ours]
            with ExitStack() as stack:
                if copy.place is Place.RELAY:
                    silenced = publications.silenced(copy.connection, self.sides.course)
                    stack.enter_context(silenced)
                merge.mend(
                    copy.connection,
                    self.table,
                    [each.id for each in to_mend],
                    rows,
                    course_id=copy.course_id,
                )
        return wrong, len(kept)

    def _difference(
        self, place: Place, id_: int, our: Row | None, their: Row | None
    ) -> Difference | None:
        table, kind = self.table, Kind.DIFFERS
        nothing = (None,) * len(table.columns)
        ours, theirs = (row.values if row else nothing for row in (our, their))
        values = dict(zip(table.columns, zip(ours, theirs, strict=True), strict=True))
        if our is None or their is None:
            if our is their:
                return None
            kind = Kind.EXTRA if our is None else Kind.MISSING
        else:
            free = table.unguarded if place is Place.COURSE else ()
            values = {
                name: (right, found)
                for name, (right, found) in values.items()
                if right != found and name not in free
            }
            if not values:
                return None
        return Difference(
            place,
            table.name,
            id_,
            kind,
            tuple(values) if kind is Kind.DIFFERS else (),
            tuple(dict.fromkeys(row.user_id for row in (our, their) if row is not None)),
            values if self.with_values else None,
        )

    def _kept(self, found: list[Difference]) -> set[int]:
        """Return users that mustn't be there and stay, scrubbed: local rows point at them."""
        extra = [each.id for each in found if each.kind is Kind.EXTRA]
        if not extra or not self.table.scrubbed:
            return set()
        database, tables = self.sides.database, self.sides.course.replicated
        return merge.referenced(database, extra) - personal_data_left(database, tables, extra)

    def _await_transactions(self) -> bool:
        """Wait until all transactions that run on the portal now have ended, if they do."""
        if self.in_vain:
            return False
        portal = self.sides.marker
        newest = fetch_value(portal, "select pg_snapshot_xmax(pg_current_snapshot())::text")
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        while not fetch_value(
            portal, "select pg_snapshot_xmin(pg_current_snapshot()) >= %s::xid8", newest
        ):
            if time.monotonic() > deadline:
                self.in_vain = True
                return False
            time.sleep(0.02)
        return True
