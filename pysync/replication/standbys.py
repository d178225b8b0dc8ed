"""The portal's standbys, as far as the connection string names them and they can be reached."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg.rows import class_row

from pysync.db.connections import Connection, describe, fetch_row
from pysync.db.errors import meaning
from pysync.db.places import identify, others, reach
from pysync.db.queries import load
from pysync.errors import PysyncError

_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class StandbySlot:
    """A slot on a standby that is called like one of the portal's.

    :param synchronized: from the portal's, rather than made there.
    :param ready: whether it would serve after a promotion.
    """

    name: str
    synchronized: bool
    ready: bool


@dataclass(frozen=True)
class Standby:
    """A server of the portal's beside the one that accepts writes.

    :param place: what messages call it.
    :param error: why it can't be asked, or isn't a standby of this portal's server.
    :param settings: those that synchronization depends on, as far as our role may see them.
    :param waits_for: what would keep it, once promoted, from sending anything.
    """

    place: str
    error: str | None = None
    slots: dict[str, StandbySlot] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    waits_for: str = ""


def awaited(server: Connection) -> tuple[str, str]:
    """Return what a server waits for before it sends anything to slots that fail over.

    :returns: the slots that no standby uses, and the others, both as the setting has them.
    """
    absent, present = fetch_row(server, _QUERIES["awaited_standbys"])
    return absent, present


def look(portal: Connection, portal_conninfo: str, names: Sequence[str]) -> list[Standby]:
    """Look at each server that a string names beside the one that was connected to, all at once.

    :param portal_conninfo: what the connection was opened with.
    :param names: of slots.
    """
    found = others(portal, portal_conninfo, accepting="any")
    if not found:
        return []
    ours = identify(portal)

    def ask(conninfo: str) -> Standby | None:
        place = describe(conninfo).rpartition(" on ")[2]
        try:
            with closing(reach(conninfo)) as connection:
                theirs = identify(connection)
                if theirs == ours:
                    return None  # it goes by two names
                if theirs.timeline is not None:
                    return Standby(place, "is no standby")
                if theirs.system_identifier != ours.system_identifier:
                    return Standby(place, "is a standby of another server")
                return Standby(place, None, *_read(connection, names), awaited(connection)[0])
        except PysyncError as error:
            return Standby(place, f"can't be asked: {error.message}")
        except psycopg.Error as error:
            return Standby(place, f"can't be asked: {meaning(error, 'it').message}")

    with ThreadPoolExecutor(len(found)) as threads:
        return [each for each in threads.map(ask, found) if each]


def _read(
    connection: Connection, names: Sequence[str]
) -> tuple[dict[str, StandbySlot], dict[str, str]]:
    with connection.cursor(row_factory=class_row(StandbySlot)) as cursor:
        slots = cursor.execute(_QUERIES["standbys_slots"], {"names": list(names)}).fetchall()
    settings: dict[str, str] = dict(connection.execute(_QUERIES["standbys_settings"]).fetchall())
    return {each.name: each for each in slots}, settings
