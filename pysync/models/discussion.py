"""Settings and the discussion service's outbox: tables of the portal, in schema pysync."""

from datetime import datetime

from sqlalchemy import BigInteger, Identity, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from pysync.models.columns import TimeOfChange
from pysync.models.portal import PortalBase


class Setting(PortalBase):
    """A feature that a portal may have on or off."""

    __tablename__ = "setting"
    __table_args__ = ({"schema": "pysync"},)

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    enabled: Mapped[bool] = mapped_column(server_default=text("false"))


class DiscussionChange(PortalBase):
    """That a user was added or changed: written by triggers, taken away by pushers.

    Rows are only ever added, so that saving a user neither waits for anything here nor fails over
    it, at no isolation level; hence no foreign key, no unique constraint and no counter either.
    None is added for a change of a user who has one that no pusher can take before: a flood of
    changes is one, unless its transactions are serializable.
    """

    __tablename__ = "discussion_change"
    __table_args__ = ({"schema": "pysync"},)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[int] = mapped_column(index=True)
    changed_at: Mapped[TimeOfChange]


class DiscussionDelivery(PortalBase):
    """A user whose state the discussion service is to get: pushers' own, one row per user."""

    __tablename__ = "discussion_outbox"
    __table_args__ = ({"schema": "pysync"},)

    user_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(
        server_default=text("1"),
        comment="counts changes: a delivery that was overtaken by one isn't the last",
    )
    queued_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(
        Integer, server_default=text("0"), comment="that failed, one after the other"
    )
    next_attempt_at: Mapped[datetime] = mapped_column(
        index=True,
        comment="while it is claimed: when the claim runs out",
    )
    claimed_until: Mapped[datetime | None] = mapped_column(
        comment="whose claim it is: of no two the same"
    )
    last_error: Mapped[str | None]
