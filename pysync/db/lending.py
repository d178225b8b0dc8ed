"""Sessions that must not meet others' code, since they have more rights than it may have."""

from typing import Final

from psycopg import sql

from pysync.db.connections import Connection, fetch_value
from pysync.db.queries import load
from pysync.errors import PysyncError

_QUERIES: Final = load(__file__)


def lend_nothing(portal: Connection, remedy: str) -> None:
    """Refuse a superuser where others may hang code on the portal's own tables.

    Until the transaction ends nobody else may do so.

    :raises PysyncError: if somebody may.
    """
    from pysync.models.portal import PortalBase

    declared = PortalBase.metadata.tables.values()
    tables = [each.name for each in declared if each.schema == "public"]
    found = fetch_value(portal, _QUERIES["met_by_superuser"], tables=tables)
    if found is None:
        return
    for table in found:
        lock = sql.SQL("lock table {} in access share mode")
        portal.execute(lock.format(sql.Identifier("public", table)))
    if lent := portal.execute(_QUERIES["lent_to"], {"tables": tables}).fetchone():
        table, role = lent
        raise PysyncError(
            f"table 'public.{table}' is in the hands of role '{role}': its code would run with the "
            "rights of a superuser",
            remedy,
        )
