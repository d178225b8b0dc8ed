"""The discussion service's outbox: whether it is on, what is queued, what fails.

While the feature is on, triggers note users that are added, or get another username or e-mail
address. :mod:`pysync.students.delivery` tells the service.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Function, column, func, select, text, update

from pysync.db.sessions import Executor, translated_calls
from pysync.models.discussion import Setting


@dataclass(frozen=True)
class QueuedUser:
    """A user whose state the service hasn't got yet.

    :param attempts: that failed, one after the other.
    :param next_attempt_at: not before then.
    :param last_error: of the last attempt, if that failed.
    """

    user_id: int
    username: str
    queued_at: datetime
    attempts: int
    next_attempt_at: datetime
    claimed_until: datetime | None
    last_error: str | None


@dataclass(frozen=True)
class DiscussionStatus:
    """How many users are queued, of them due now, being delivered, and failing."""

    enabled: bool
    queued: int
    due: int
    delivering: int
    failing: int
    oldest_queued_at: datetime | None


def set_enabled(executor: Executor, enabled: bool) -> None:
    """Turn the feature on or off: while it is off, nothing is queued and nothing delivered."""
    feature = Setting.name == "discussion_service"
    with translated_calls():
        executor.execute(update(Setting).where(feature).values(enabled=enabled))
    _call(executor, func.pysync.wake_pushers())


def status(executor: Executor) -> DiscussionStatus:
    """Return whether the feature is on, and how many users are queued."""
    with translated_calls():
        row = executor.execute(text("select * from pysync.discussion_status()")).one()
    return DiscussionStatus(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it


def failing(executor: Executor, limit: int) -> list[QueuedUser]:
    """Return queued users whose last delivery failed, those that failed most often first.

    :param limit: how many at most.
    """
    queue = func.pysync.discussion_queue().table_valued(*QueuedUser.__dataclass_fields__)
    with translated_calls():
        rows = executor.execute(
            select(queue)
            .where(column("last_error").is_not(None))
            .order_by(column("attempts").desc(), column("queued_at"))
            .limit(limit)
        )
        return [QueuedUser(**row._mapping) for row in rows]  # noqa: SLF001


def retry(executor: Executor, username: str | None = None) -> int:
    """Make failed deliveries due now.

    :param username: whose; everybody's by default.
    :returns: how many.
    :raises NotFoundError: if no user has the username.
    """
    return int(_call(executor, func.pysync.retry_deliveries(username)))


def queue_all(executor: Executor) -> int:
    """Queue every user, as after the service lost its data.

    :returns: how many.
    :raises InvalidValueError: if the feature is off.
    """
    return int(_call(executor, func.pysync.queue_all_users()))


def _call(executor: Executor, function: Function[Any]) -> Any:
    with translated_calls():
        return executor.scalar(select(function))
