"""Find out whether a course's server reaches the portal."""

import time
from collections.abc import Callable
from contextlib import closing

import psycopg

from pysync.db.connections import Connection, connect
from pysync.errors import PortalUnreachableError, PysyncError
from pysync.findings import Finding
from pysync.replication.databases import connect_course
from pysync.replication.registry import Course
from pysync.replication.subscriptions import connection_string, subscribing


def connect_until(
    conninfo: str, deadline: float, connect: Callable[..., Connection] = connect
) -> Connection:
    """Connect for what must be over at a deadline on the monotonic clock."""
    seconds = max(deadline - time.monotonic(), 0.1)
    return connect(conninfo, connect_timeout_seconds=2, statement_timeout_seconds=seconds)


def reach(course: Course, deadline: float) -> Finding | None:
    """Have a course's server connect to the portal as its subscription does; nothing is changed.

    :param deadline: when to stop, on the monotonic clock.
    :returns: why it can't, or ``None`` if it can or nobody knows.
    """
    name = course.replication_name
    try:
        with closing(connect_until(course.conninfo, deadline, connect_course)) as database:
            # With the subscription's own password, where we may see it.
            conninfo = connection_string(database, name) or course.portal_conninfo
            with subscribing(database, f"{name[:57]}_probe", conninfo, publication=name):
                raise psycopg.Rollback
    except PortalUnreachableError as error:
        again = f"'{course.command('add')} … --portal-conninfo …'"
        return Finding(
            "the course's server",
            f"can't reach {course.publisher}: {error.reason}",
            f"mend role, password, pg_hba.conf or network, or run {again} with another way there",
        )
    except (PysyncError, psycopg.Error):
        return None
    return None
