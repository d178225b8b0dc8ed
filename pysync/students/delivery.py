"""Deliver users to the discussion service, at least once and in order per user.

A pusher claims users in a transaction that is over at once, for longer than a delivery can take, so
that no two pushers deliver one user at the same time and no lock is held while the service stalls.
A user's state is read as it is claimed; what changes after that is queued again. What isn't
settled, because the pusher was killed or lost the portal, can be claimed again once the claim has
run out.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple

import httpx
import psycopg

from pysync.db.connections import AsyncConnection, connect_async
from pysync.db.errors import told, translated
from pysync.errors import DatabaseUnreachableError, PysyncError
from pysync.students.service import Service, client, put

LEASE_SECONDS: Final = 30.0
"""How long a claim holds. A pusher that was frozen meanwhile gives it up if too little is left."""

CONCURRENCY: Final = 8
"""How many users a pusher delivers at a time."""

_POLL_SECONDS: Final = 5.0  # without having been woken
_LOG: Final = logging.getLogger(__name__)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_SOON_SECONDS: Final = 0.05
_RECONNECT_SECONDS: Final = 1.0
_STATEMENT_TIMEOUT_SECONDS: Final = 30
_TRANSIENT: Final = (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnreachableError)
_NOT_MIGRATED: Final = (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction)

Report = Callable[[str], None]


class Pushed(NamedTuple):
    """What a push came to.

    :param delivered: how many users' states the service took.
    :param failing: how many queued users the service has refused last; 0 after following.
    :param stopped: whether a signal ended it.
    """

    delivered: int
    failing: int
    stopped: bool


async def push(
    conninfo: str,
    service: Service,
    report: Report,
    *,
    follow: bool = False,
    lease_seconds: float = LEASE_SECONDS,
) -> Pushed:
    """Deliver what is due now; SIGTERM and SIGINT end it after the deliveries under way.

    :param conninfo: of the portal.
    :param report: told in a line what an operator should know.
    :param follow: go on until a signal comes, also when the portal is lost for a while.
    :param lease_seconds: how long a claim holds: more than a delivery may take.
    :raises PysyncError: if the feature is off (a pusher that follows waits until it is on), or the
        portal isn't migrated.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    """
    try:
        with translated("portal"):
            return await _Pusher(conninfo, service, report, follow, lease_seconds).run()
    except PysyncError as error:
        if isinstance(error.__cause__, _NOT_MIGRATED):
            raise PysyncError(
                "portal isn't at the revision of this pysync", "run 'pysync migrate'"
            ) from error
        raise


class _Claim(NamedTuple):
    user_id: int
    username: str | None
    email: str | None
    version: int
    claimed_until: datetime


@dataclass
class _Pusher:
    conninfo: str
    service: Service
    report: Report
    follow: bool
    lease_seconds: float
    _connection: AsyncConnection | None = None
    _connecting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _failure: BaseException | None = None
    _stopping: bool = False
    _delivered: int = 0

    async def run(self) -> Pushed:
        """Deliver until nothing is due or a signal comes."""
        listener: asyncio.Task[None] | None = None
        try:
            (enabled, begun_at), *_ = await self._query(
                "select pysync.feature_is_on('discussion_service'), clock_timestamp()"
            )
            if self.follow:
                listener = asyncio.create_task(self._listen())
            elif not enabled:
                raise PysyncError(
                    "discussion service is off: nothing is delivered",
                    "run 'pysync discussion enable' first",
                )
            async with client(self.service, CONCURRENCY) as http:
                for each in _SIGNALS:
                    asyncio.get_running_loop().add_signal_handler(each, self._stop)
                await self._deliver_all(http, "infinity" if self.follow else begun_at)
                while self._running:
                    await asyncio.wait(self._running)
                self._heed_no_signals()
            if self._failure:
                raise self._failure
            failing = 0
            if not self.follow:
                (failing,), *_ = await self._query("select failing from pysync.discussion_status()")
        finally:
            if listener:
                listener.cancel()
                with suppress(asyncio.CancelledError):
                    await listener
            if self._connection:
                await self._connection.close()
        return Pushed(self._delivered, failing, self._stopping)

    async def _deliver_all(self, http: httpx.AsyncClient, due_before: datetime | str) -> None:
        """Claim users as there is room for them."""
        while not (self._stopping or self._failure):
            # Before looking: whatever happens from now on makes us look again.
            self._wake.clear()
            room = CONCURRENCY - len(self._running)
            begin = asyncio.get_running_loop().time()
            claims: list[_Claim] = []
            timeout: float | None = None
            try:
                if room:
                    rows = await self._query(
                        "select * from pysync.claim_deliveries(%s, %s, %s)",
                        room,
                        self.lease_seconds,
                        due_before,
                    )
                    claims = [_Claim(*row) for row in rows]
                if self.follow and len(claims) < room:
                    timeout = await self._seconds_to_wait()
            except _TRANSIENT as error:
                if not self.follow:
                    raise
                self.report(f"portal lost, trying again: {told(error)}")
                timeout = _RECONNECT_SECONDS
            for claim in claims:
                task = asyncio.create_task(self._deliver(http, claim, begin))
                self._running.add(task)
                task.add_done_callback(self._done)
            if not self.follow and not self._running:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout)

    async def _seconds_to_wait(self) -> float:
        """Return when to look again, woken or not."""
        (seconds,), *_ = await self._query("select pysync.next_delivery_seconds()")
        return min(max(_POLL_SECONDS if seconds is None else seconds, _SOON_SECONDS), _POLL_SECONDS)

    async def _deliver(self, http: httpx.AsyncClient, claim: _Claim, claimed_at: float) -> None:
        error = None
        if claim.username is not None:
            late_seconds = asyncio.get_running_loop().time() - claimed_at
            if late_seconds + self.service.timeout_seconds > self.lease_seconds:
                return
            error = await put(http, self.service, claim.user_id, claim.username, claim.email or "")
            self._delivered += error is None
        try:
            ((due_at,),) = await self._query(
                "select pysync.settle_delivery(%s, %s, %s, %s)",
                claim.user_id,
                claim.claimed_until,
                claim.version,
                error,
            )
            if error is not None:
                due = due_at and f"due again at {due_at.isoformat(timespec='seconds')}"
                self.report(f"user {claim.user_id} not delivered: {error}; {due or 'claimed anew'}")
        except _TRANSIENT as lost:
            if not self.follow:
                raise
            self.report(
                f"user {claim.user_id}: what came of the delivery can't be noted, there will be "
                f"another: {told(lost)}"
            )

    async def _query(self, query: LiteralString, *arguments: Any) -> list[tuple[Any, ...]]:
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection = await connect_async(
                    self.conninfo, statement_timeout_seconds=_STATEMENT_TIMEOUT_SECONDS
                )
        cursor = await self._connection.execute(query, arguments)
        return await cursor.fetchall()

    async def _listen(self) -> None:
        """Wake the pusher whenever a transaction with something for it is committed."""
        while True:
            with suppress(*_TRANSIENT):
                async with await connect_async(self.conninfo) as connection:
                    await connection.execute("listen pysync_discussion")
                    _LOG.info("waiting for changes of users")
                    # What was committed before wakes nobody.
                    self._wake.set()
                    async for _ in connection.notifies():
                        self._wake.set()
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._failure = self._failure or task.exception()
        self._wake.set()

    def _stop(self) -> None:
        """Stop at the first signal; a second one ends the process."""
        self._stopping = True
        self._wake.set()
        self._heed_no_signals()

    @staticmethod
    def _heed_no_signals() -> None:
        for each in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)
