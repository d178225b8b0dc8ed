"""What a look at a server found: an object, what is wrong with it, what mends it."""

from dataclasses import dataclass, field
from typing import Any, Final

from pysync.texts import Text, visible

ON_PORTAL: Final = "on the portal"
IN_COURSE: Final = "in the course database"


class Advice:
    """What holds a remedy, of which it knows what is to be copied, and otherwise data.

    Whatever names and words of others are in it, each text is one line of visible characters.
    """

    def __post_init__(self) -> None:
        """Make it so."""
        told: dict[str, Any] = {
            name: visible(value)
            for name in ("object", "cause")
            if isinstance(value := getattr(self, name, None), str)
        }
        if remedy := getattr(self, "remedy", None):
            told["remedy"] = Text(remedy)
            told["commands"] = told["remedy"].commands
        for name, value in told.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Finding(Advice):
    """Something that isn't as it should be.

    :param object: what it is about, such as ``trigger pysync_user_updated on public.auth_user``.
    :param cause: what is wrong with it and what follows from that.
    :param remedy: what to do, as an imperative sentence without a full stop.
    :param must: whether something doesn't work, or will not; else it could be better.
    :param commands: what of the remedy is to be copied, into a shell or a session of SQL.
    """

    object: str
    cause: str
    remedy: str
    must: bool = True
    commands: tuple[str, ...] = field(init=False, default=())

    def __str__(self) -> str:
        return f"{self.object} {self.cause}"

    @property
    def text(self) -> Text:
        """Return all of it, for people."""
        return Text.plain(f"{self}; ") + Text(self.remedy)


def run(statements: str, where: str) -> Text:
    """Return the remedy that is SQL, for people to copy.

    Whoever pastes it may have a ``search_path`` in which others have functions and operators.
    """
    return Text.plain(f"run {where}: ") + Text.sql(
        f"set search_path = pg_catalog, pg_temp; {statements}"
    )


def alone(statement: str, where: str) -> Text:
    """Return the remedy that is a statement which PostgreSQL takes only on its own.

    That is one that can't be in a transaction block, which several in one string are.
    """
    return Text.plain(f"run {where}: ") + Text.sql(statement)
