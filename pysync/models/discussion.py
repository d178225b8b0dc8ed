"""Settings and the discussion service's outbox: tables of the portal, in schema pysync."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from pysync.models.portal import PortalBase


class Setting(PortalBase):
    """A feature that a portal may have on or off."""

    __tablename__ = "setting"
    __table_args__ = (
        PrimaryKeyConstraint("name", name="setting_pkey"),
        {"schema": "pysync"},
    )

    name: Mapped[str] = mapped_column(String(63))
    enabled: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class DiscussionChange(PortalBase):
    """That a user was added or changed: written by triggers, taken away by pushers.

    Rows are only ever added, so that saving a user neither waits for anything here nor fails over
    it, at no isolation level; hence no foreign key, no unique constraint and no counter either.
    """

    __tablename__ = "discussion_change"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="discussion_change_pkey"),
        {"schema": "pysync"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    user_id: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("now()")
    )


class DiscussionDelivery(PortalBase):
    """A user whose state the discussion service is to get: pushers' own, one row per user."""

    __tablename__ = "discussion_outbox"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", name="discussion_outbox_pkey"),
        Index("discussion_outbox_next_attempt_at_idx", "next_attempt_at"),
        {"schema": "pysync"},
    )

    user_id: Mapped[int] = mapped_column(BigInteger, autoincrement=False)
    version: Mapped[int] = mapped_column(
        BigInteger,
        server_default=text("1"),
        comment="counts changes: a delivery that was overtaken by one isn't the last",
    )
    queued_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    attempts: Mapped[int] = mapped_column(
        Integer, server_default=text("0"), comment="that failed, one after the other"
    )
    next_attempt_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True),
        comment="while it is claimed: when the claim runs out",
    )
    claimed_until: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="whose claim it is: of no two the same"
    )
    last_error: Mapped[str | None] = mapped_column(Text)
