"""What a course's apply worker may do: no more than the owner of the table it writes.

Up to 15 it acts as its subscription's owner, from 16 on as each table's owner.
"""

from contextlib import suppress

from psycopg import errors, sql

from pysync.db.connections import Connection, fetch_value
from pysync.db.queries import load
from pysync.errors import ReplicationError
from pysync.findings import IN_COURSE, run
from pysync.models.replicated import PUBLISHED_TABLES

QUERIES = load(__file__)


def restrict(database: Connection, subscription: str) -> None:
    """Give a subscription to a role of its own name that has the rights it needs, up to 15."""
    places = {
        "name": sql.Literal(subscription),
        "role": sql.Identifier(subscription),
        "tables": sql.Literal(list(PUBLISHED_TABLES)),
    }
    database.execute(QUERIES["restrict_worker"].format(**places))


def drop_role(database: Connection, subscription: str) -> None:
    """Drop the role of a subscription that is gone, if it had one."""
    is_there = "select true from pg_catalog.pg_roles where rolname = %s"
    if not fetch_value(database, is_there, subscription):
        return
    role = sql.Identifier(subscription)
    database.execute(sql.SQL("drop owned by {}").format(role))
    # A course that moves has two databases for a while, and they may be on the same server.
    with suppress(errors.DependentObjectsStillExist):
        database.execute(sql.SQL("drop role {}").format(role))


def end(database: Connection, name: str, oid: int) -> bool:
    """End a stopped subscription's workers as far as we may; returns whether there were any.

    :raises ReplicationError: if one waits for a lock, so that it won't end by itself, and isn't
        ours to end.
    """
    found = database.execute(QUERIES["end_subscriptions_workers"], {"oid": oid}).fetchall()
    for is_told, pid, role, is_superuser, ours, waits in found:
        if waits and role and is_told is None:
            grant = sql.SQL("grant pg_signal_backend to {}").format(sql.Identifier(ours))
            raise ReplicationError(
                f"subscription '{name}' is disabled, but process {pid} of it waits for a lock, and "
                f"role '{ours}' may not end it: it is role '{role}''s",
                "run the command as a superuser"
                if is_superuser
                else run(grant.as_string(None), IN_COURSE) + ", then run the command again",
            )
    return bool(found)
