"""Slots that standbys of the portal keep as well, so that courses go on once one is promoted."""

from pysync.db.connections import Connection
from pysync.db.errors import translated
from pysync.db.queries import load
from pysync.replication import settings, slots, snapshots, subscriptions
from pysync.replication.publishers import Publisher
from pysync.replication.registry import Course

QUERIES = load(__file__)


def lacks(portal: Connection, database: Connection, course: Course) -> tuple[bool, bool]:
    """Return whether slot and subscription don't fail over though their servers have that.

    The slot is what counts. A course's server that knows nothing of it (up to 16) can use one.
    """
    name = course.replication_name
    slot = portal.execute(QUERIES["slot_fails_over"], {"name": name}).fetchone()
    if slot is None or not slot[1]:
        return False, False
    has = settings.has_setting(database, "subfailover")
    return not slot[0], has and settings.read(database, name).options.get("failover") != "true"


def ensure(publisher: Publisher, database: Connection, course: Course) -> None:
    """Have a course's slot and subscription fail over, where their servers have that.

    Only what is stopped can be told: a subscription that runs is stopped for a moment.
    """
    portal = publisher.connection
    of_slot, of_subscription = lacks(portal, database, course)
    if not of_slot and not of_subscription:
        return
    name = course.replication_name
    runs = subscriptions.get(database, course).enabled
    try:
        if runs:
            subscriptions.stop(database, course)
            slots.await_confirmed(portal, name)
        if of_slot:
            with translated(f"slot '{name}'"):
                snapshots.set_on_slot(publisher.conninfo, name, ["failover"])
        if of_subscription:
            subscriptions.choose(database, course, "failover", "true")
    finally:
        if runs and not database.closed:
            subscriptions.enable(database, course)
