"""Who counts as enrolled: what the portal's tables say of the column that was chosen, or of one."""

from collections.abc import Iterator
from contextlib import suppress

from psycopg import errors

from pysync.db.connections import Connection
from pysync.findings import ON_PORTAL, Finding
from pysync.migrate import membership
from pysync.migrate.carried import ENROLLMENTS, columns
from pysync.migrate.membership import USUAL
from pysync.texts import quoted, word


def membership_findings(portal: Connection) -> Iterator[Finding]:
    """Return why the column that was chosen can't say any more who counts."""
    try:
        decision = membership.decided(portal)
    except errors.InsufficientPrivilege:
        return
    if decision is None or decision.column is None:
        return
    of = (ENROLLMENTS, decision.column)
    found = columns(portal, "public", [of]).get(of)
    if found is not None and found.type == "boolean":
        return
    what = "is gone" if found is None else f"is {quoted(found.type)}, no boolean,"
    yield Finding(
        f"column '{decision.column}' of {ENROLLMENTS}",
        f"{what} {ON_PORTAL}: each enrollment that is written counts, whatever it said",
        "bring it back as boolean and run "
        f"'pysync membership --column {word(decision.column)}', or run 'pysync membership --reset'",
    )


def undecided(portal: Connection) -> Iterator[Finding]:
    """Say that a portal marks who has left, and that nobody has decided what that means."""
    with suppress(errors.InsufficientPrivilege):
        if USUAL not in membership.booleans(portal) or membership.decided(portal) is not None:
            return
        yield Finding(
            f"column '{USUAL}' of {ENROLLMENTS}",
            f"says nothing {ON_PORTAL} about who counts as enrolled: who left is carried if the "
            "row stays",
            f"run 'pysync membership --column {USUAL}', or 'pysync membership --reset' to have "
            "each row count",
            must=False,
        )
