"""What is set on a course's subscription, so that one that is made in its place has it, too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from pysync.db.connections import Connection
from pysync.db.queries import load

_SETTINGS: Final = {
    "substream": "streaming",
    "subbinary": "binary",
    "subdisableonerr": "disable_on_error",
    "subpasswordrequired": "password_required",
    "subsynccommit": "synchronous_commit",
    "suborigin": "origin",
    "subfailover": "failover",
    "subtwophasestate": "two_phase",
    "subrunasowner": "run_as_owner",
}
"""What the columns of ``pg_subscription`` are called in statements."""

_VALUES: Final[Mapping[Any, str]] = {
    ("substream", "p"): "parallel",
    ("subtwophasestate", "p"): "true",  # wanted, and waiting for all tables to be copied
    ("subtwophasestate", "e"): "true",
    ("subtwophasestate", "d"): "false",
    "t": "true",
    "f": "false",
}
"""What their values are, where it isn't the same."""

QUERIES = load(__file__)


@dataclass(frozen=True)
class Settings:
    """What is set on a subscription that was made as ours are, or changed on it since."""

    options: Mapping[str, str]
    owner: str | None = None

    @property
    def of_slot(self) -> list[str]:
        """Return what must be set on its slot as well."""
        return [name for name in ("failover", "two_phase") if self.options.get(name) == "true"]


AS_MADE: Final = Settings({"failover": "true"})
"""Those of a subscription of which nothing is known; it says nothing to the portal's server."""


def read(database: Connection, name: str) -> Settings:
    """Return what is set on a subscription; nothing, if it is missing."""
    columns = _columns(database)
    texts = [sql.SQL("{}::text").format(sql.Identifier("s", column)) for column in columns]
    query = QUERIES["settings"].format(columns=sql.SQL(", ").join(texts))
    found = database.execute(query, {"name": name}).fetchone()
    if found is None:
        return AS_MADE
    owner, *values = found
    options = {
        _SETTINGS[column]: _VALUES.get((column, value), _VALUES.get(value, value))
        for column, value in zip(columns, values, strict=True)
    }
    return Settings(options, owner)


def has_setting(database: Connection, column: str) -> bool:
    """Return whether subscriptions have a setting on this server, by its column."""
    asked = {"names": [column]}
    return database.execute(QUERIES["settings_of_subscriptions"], asked).fetchone() is not None


def known(database: Connection, settings: Settings) -> dict[str, str]:
    """Return of these settings those that this server has, for a subscription in its place.

    That it acts as its owner isn't among them: see :mod:`pysync.replication.workers`.
    """
    has = {_SETTINGS[column] for column in _columns(database)} - {"run_as_owner"}
    return {name: value for name, value in settings.options.items() if name in has}


def _columns(database: Connection) -> list[str]:
    asked = {"names": list(_SETTINGS)}
    return [name for (name,) in database.execute(QUERIES["settings_of_subscriptions"], asked)]
