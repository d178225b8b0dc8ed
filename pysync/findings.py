"""What a look at a server found: an object, what is wrong with it, what mends it."""

from dataclasses import dataclass
from typing import Final

ON_PORTAL: Final = "on the portal"
IN_COURSE: Final = "in the course database"


@dataclass(frozen=True)
class Finding:
    """Something that isn't as it should be.

    :param object: what it is about, such as ``trigger pysync_user_updated on public.auth_user``.
    :param cause: what is wrong with it and what follows from that.
    :param remedy: what to do, as an imperative sentence without a full stop.
    :param must: whether something doesn't work, or will not; else it could be better.
    """

    object: str
    cause: str
    remedy: str
    must: bool = True

    def __str__(self) -> str:
        return f"{self.object} {self.cause}"


def run(statement: str, where: str) -> str:
    """Return the remedy that is a statement, for people to copy."""
    return f"run {where}: {statement}"
