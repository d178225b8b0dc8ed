"""Everything pysync raises on purpose, in one tree.

A message reads ``<object> '<name>' <state>: <cause>``; ``remedy`` says what to run or change next.
Neither ever holds a password. Both are one line of visible characters, whatever texts of others a
message quotes; a remedy has none of those.
"""

from collections.abc import Sequence

from pysync.texts import Text, visible


class PysyncError(Exception):
    """Base of every error a user can meet; the command line prints it as one line.

    :param message: what is wrong, naming the object.
    :param remedy: what to do about it, as an imperative sentence without a full stop.
    """

    def __init__(self, message: str, remedy: str | None = None) -> None:
        self.message = visible(message)
        super().__init__(self.message)
        self.remedy = Text(remedy) if remedy else None

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message

    @property
    def text(self) -> Text:
        """Return message and remedy, for people."""
        return (
            Text.plain(f"{self.message}; ") + self.remedy if self.remedy else Text.plain(str(self))
        )


class InvalidCourseIdError(PysyncError):
    """A course id is empty, too long, reserved, or can't be stored."""


class UnknownCourseError(PysyncError):
    """A course id isn't in the registry."""


class DatabaseUnreachableError(PysyncError):
    """A server can't be reached, refuses the role or password, or lacks the database."""


class UnsuitableServerError(PysyncError):
    """A server's version, settings, encoding or roles don't allow what was asked."""


class UnsuitableDatabaseError(PysyncError):
    """A database already has another part to play: a portal, another course, someone's users."""


class UnclaimedError(PysyncError):
    """A portal is a copy, or was moved: it isn't known to be the one that its courses follow."""


class ForeignDatabaseError(UnsuitableDatabaseError):
    """A database belongs to a course, but of another portal, or is a copy of a course's."""


class AdoptionError(PysyncError):
    """An existing table can't be adopted.

    :param table: its name, with its schema.
    :param found: what was found, such as ``nullable, with nulls in it``.
    :param expected: what was expected instead, unless what was found says it all.
    :param column: what it is about, if not the table as a whole.
    """

    def __init__(
        self,
        table: str,
        found: str,
        remedy: str = "change it and run the command again",
        *,
        expected: str | None = None,
        column: str | None = None,
    ) -> None:
        self.table, self.column, self.found, self.expected = table, column, found, expected
        where = f" column '{column}'" if column else ""
        super().__init__(f"table '{table}'{where} can't be adopted: {self.cause}", remedy)

    @property
    def cause(self) -> str:
        """Return what was found, and expected."""
        return f"found {self.found}, expected {self.expected}" if self.expected else self.found


class MigrationError(PysyncError):
    """A migration can't start or was rolled back."""


class LockedError(PysyncError):
    """Something else holds a lock for longer than pysync is willing to queue for it."""


class ReplicationError(PysyncError):
    """A subscription, publication or slot isn't in the state an operation needs."""


class PortalUnreachableError(ReplicationError):
    """A course's server can't reach the portal.

    :param reason: what its server says of that.
    :param files: parameters of its connection that are files, on that server.
    """

    def __init__(self, reason: str, files: Sequence[str] = ()) -> None:
        self.reason = reason
        there = f" ({', '.join(files)} being files of that server)" if files else ""
        super().__init__(
            f"course server can't reach the portal: {reason}",
            f"set --portal-conninfo to how the course's server reaches it{there}, and allow it in "
            "pg_hba.conf",
        )


class NotFoundError(PysyncError):
    """A user, group, key, registration or whatever else a call names doesn't exist."""


class InvalidValueError(PysyncError):
    """A value isn't one that its column or function takes."""


class InUseError(PysyncError):
    """A name, e-mail address or key is somebody else's already, or may exist only once."""


class WaitTimeoutError(PysyncError):
    """A course database hasn't received a mark in time."""


class ChangesMissingError(ReplicationError):
    """A course database has received a mark, and lost changes that came before."""


class DemoError(PysyncError):
    """The demo can't run, or found a difference between portal and courses."""
