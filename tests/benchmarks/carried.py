"""User updates with columns of the portal's own carried, beside as many columns that are declared.

As in singles.py: 20,000 users, three enrollments each in eight registered courses, pgbench.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from unittest import mock

from pysync.db.connections import Connection, connect
from pysync.migrate import columns
from pysync.migrate import functions as rendered
from pysync.migrate.carried import Carried
from pysync.migrate.lineage import PORTAL
from pysync.migrate.wanted import asked
from pysync.models import replicated
from pysync.models.replicated import CarriedColumn
from tests.benchmarks import pgbench
from tests.benchmarks.measure import PER_SECOND, Comparison, Effort, Row, interleave
from tests.benchmarks.pair import (
    Pair,
    Quiet,
    enroll_in_three,
    new_portal,
    register_only,
)
from tests.benchmarks.singles import COURSES, USERS

OWN = {"country": "varchar(2)", "consent": "boolean", "karma": "integer"}


def measure(pair: Pair, effort: Effort) -> list[Row]:
    """Return updates per second of a server whose functions have three columns more."""
    comparison = Comparison(
        "user updates, server alone, 3 columns carried, beside declared", PER_SECOND, at_least=1.0
    )
    portals = {name: new_portal(pair, name, USERS, profiles=False) for name in ("declared", "own")}
    for name, conninfo in portals.items():
        with closing(connect(conninfo)) as portal:
            for column, type_ in OWN.items():
                portal.execute(f"alter table public.auth_user add column {column} {type_}".encode())
            if name == "own":
                add = partial(asked, "auth_user", list(OWN), scrub=None, takes_over=False)
                list(columns.add(conninfo, add, Quiet(pair.say)))
            else:
                _declare(portal)
            register_only(portal, COURSES)
            enroll_in_three(portal, COURSES)

    def update(name: str, values: list[float]) -> None:
        with closing(connect(portals[name])) as portal:
            portal.execute("vacuum public.auth_user, course.auth_user")
        ran = pgbench.run(
            pair.installation,
            portals[name],
            "update_user",
            {"users": USERS},
            seconds=effort.rate_seconds,
        )
        values.append(ran.per_second)

    for name in portals:
        update(name, [])  # Brings every page to where it is in the long run.
    for done in interleave(
        effort.rate_rounds,
        lambda: update("declared", comparison.beside),
        lambda: update("own", comparison.pysync),
    ):
        pair.say(f"{comparison.title}: round {done} of {effort.rate_rounds}")
    return [comparison.row()]


def _declare(portal: Connection) -> None:
    """Have the fan-out have the columns as if the models declared them."""
    declared = replicated.frozen()
    more = {name: (type_, None) for name, type_ in OWN.items()}
    with mock.patch.dict(declared, auth_user={**declared["auth_user"], **more}):
        # Tables' columns are read once: here are tables of which nobody has asked.
        tables = tuple(replicated.carrying([CarriedColumn("mark", "none", "text")]))
        with mock.patch.object(rendered, "carrying", return_value=tables):
            functions = list(rendered.functions(PORTAL, Carried(), None))
    for name, type_ in OWN.items():
        portal.execute(f"alter table course.auth_user add column {name} {type_}".encode())
    for each in functions:
        portal.execute(each.encode())
