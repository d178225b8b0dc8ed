"""Whether a bulk statement's cost grows with its rows, whatever the statistics and plans are.

A portal of so many users, all with profiles, is made for each run; the same statements follow each
other there, each about as many rows as there are users. What counts is the time per row in the larger
portal beside that in the smaller one: a plan that meets each row with each shows as four times.
Autovacuum is off. Runs differ in

- statistics: made of empty tables, of a few rows (stale), of the rows as they are (fresh), or missing;
- sessions: a new one for each statement, or one that has run each of them when the tables were empty.

Each cell is measured in several databases, and its least time counts: other load only adds to it. A
statement that takes too long is ended there, and nothing that would have followed it is measured. The
same without pysync's triggers tells what is PostgreSQL's own, such as the plans of foreign keys.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count, product
from math import inf

from psycopg import sql
from psycopg.errors import QueryCanceled

from pysync.db.connections import Connection, connect
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.types import CourseId
from tests.benchmarks.measure import MICROSECONDS_PER_ROW, Effort, Row, judge
from tests.benchmarks.pair import QUERIES, Pair, Triggers, register_only, set_triggers

STEM = "Bench/Linear"
COURSES = [CourseId(f"{STEM}/{number}") for number in range(4)]

STATEMENTS = (
    "enroll",
    "update_users",
    "rename_users",
    "update_profiles",
    "delete_profiles",
    "insert_profiles_again",
    "move",
    "unenroll",
    "enroll_where_all_left",
    "delete_users",
)
"""In the order in which they follow each other; each is a query of its own."""

STATISTICS = ("empty", "stale", "missing", "fresh")
SESSIONS = ("first call", "old plans")
FEW = 50
"""Users that stale statistics know."""

WARM_UP = 6
"""Calls after which a session keeps its plans: PostgreSQL plans five times before it decides."""

LIMIT_SECONDS = 15

AT_MOST = 1.3

_template = "linear"
_numbers = count()


@dataclass(frozen=True)
class Cell:
    """What is measured at both sizes."""

    statement: str
    statistics: str
    session: str
    triggers: Triggers = Triggers.ALL


class Seconds(defaultdict[Cell, list[float]]):
    """Seconds per row of each cell's runs; none of those that took too long."""

    def __init__(self) -> None:
        super().__init__(list)

    def least(self, cell: Cell) -> float:
        return min(self[cell], default=inf)


def measure(pair: Pair, effort: Effort) -> list[Row]:
    """Return a row per statement: its worst cell, and all cells among the details."""
    smaller, larger = Seconds(), Seconds()
    make_template(pair)
    for repeat in range(effort.repeats):
        # Once is enough to know where PostgreSQL's own plans grow.
        sides = (Triggers.ALL,) if repeat else (Triggers.NONE, Triggers.ALL)
        for triggers, statistics, session in product(sides, STATISTICS, SESSIONS):
            for size, seconds in zip(effort.sizes, (smaller, larger), strict=True):
                for statement, per_row in _run(pair, triggers, statistics, session, size):
                    cell = Cell(statement, statistics, session, triggers)
                    # One that takes too long is a cell, too, but has no time.
                    seconds[cell] += [] if per_row is None else [per_row]
        pair.say(f"linearity: repeat {repeat + 1} of {effort.repeats}")
    return [_row(statement, smaller, larger) for statement in STATEMENTS]


def make_template(pair: Pair) -> None:
    """Migrate a database once: the runs have copies."""
    conninfo = pair.portal.create_database(_template)
    migrate(conninfo, PORTAL, "portal")
    with closing(connect(conninfo)) as portal:
        register_only(portal, COURSES)


def _row(statement: str, smaller: Seconds, larger: Seconds) -> Row:
    def ratio(cell: Cell) -> float:
        few, many = smaller.least(cell), larger.least(cell)
        return inf if inf in {few, many} else many / few

    title = statement.replace("_", " ")
    cells = [
        cell
        for cell in larger
        if cell in smaller and cell.statement == statement and cell.triggers is Triggers.ALL
    ]
    if not cells:
        return Row(f"{title}: not measured, another took too long everywhere", met=False)
    worst = max(cells, key=ratio)
    without = replace(worst, triggers=Triggers.NONE)
    target, met = judge(ratio(worst), at_most=AT_MOST)
    ratios = sorted(map(ratio, cells))
    title += f", at worst: {worst.statistics}, {worst.session}"
    if ratio(without) > AT_MOST:
        title += f"; without pysync {ratio(without):.2f}"
    if len(cells) < len(STATISTICS) * len(SESSIONS):
        title += f"; {len(cells)} cells"
    return Row(
        title,
        _text(smaller.least(worst)),
        _text(larger.least(worst)),
        None if ratio(worst) == inf else ratio(worst),
        (ratios[0], ratios[-2]) if len(ratios) > 1 and ratios[-2] < inf else None,
        target,
        met,
        {
            "cells": [
                {
                    "statistics": cell.statistics,
                    "session": cell.session,
                    "seconds_per_row": [smaller[cell], larger[cell]],
                    "without_pysync": [smaller[bare], larger[bare]],
                }
                for cell in cells
                for bare in [replace(cell, triggers=Triggers.NONE)]
            ]
        },
    )


def _text(seconds: float) -> str:
    return "too long" if seconds == inf else MICROSECONDS_PER_ROW.text(seconds)


def _run(
    pair: Pair, triggers: Triggers, statistics: str, session: str, size: int
) -> Iterator[tuple[str, float | None]]:
    """Make a portal and run all statements there; yields each with its seconds per row.

    The last one may have taken too long, and has none.
    """
    with _copy(pair) as conninfo, closing(connect(conninfo)) as loader:
        set_triggers(loader, triggers)
        if statistics == "empty":
            loader.execute("analyze")
        with closing(_session(conninfo)) as old:
            if session == "old plans":
                _keep_plans(old)
            _load(loader, statistics, size)
            for statement in STATEMENTS:
                # Where all members left, statistics are of when they were there.
                if statistics == "fresh" and statement != "enroll_where_all_left":
                    loader.execute("analyze")
                with closing(_session(conninfo)) as new:
                    chosen = old if session == "old plans" else new
                    begin = time.perf_counter()
                    try:
                        chosen.execute(QUERIES[statement])
                    except QueryCanceled:
                        pair.say(f"{statement}, {statistics}, {session}, {size} rows: too long")
                        yield statement, None
                        break
                    yield statement, (time.perf_counter() - begin) / size


@contextmanager
def _copy(pair: Pair) -> Iterator[str]:
    """Copy the template for a run; yields the conninfo."""
    name = f"{_template}_{next(_numbers)}"
    copy = sql.SQL("create database {} template {}")
    drop = sql.SQL("drop database {}")
    with closing(connect(pair.portal.conninfo())) as server:
        server.execute(copy.format(sql.Identifier(name), sql.Identifier(_template)))
        yield pair.portal.conninfo(name)
        server.execute(drop.format(sql.Identifier(name)))


def _session(conninfo: str) -> Connection:
    session = connect(conninfo, statement_timeout_seconds=LIMIT_SECONDS)
    session.execute("set synchronous_commit = off")
    return session


def _keep_plans(session: Connection) -> None:
    """Let a session plan each statement for a single user, and keep that."""
    for _ in range(WARM_UP):
        session.execute(QUERIES["insert_users"], {"users": 1})
        session.execute(QUERIES["insert_profiles"])
        for statement in STATEMENTS:
            session.execute(QUERIES[statement])


def _load(loader: Connection, statistics: str, size: int) -> None:
    if statistics == "stale":
        loader.execute(QUERIES["insert_users"], {"users": FEW})
        loader.execute(QUERIES["insert_profiles"])
        loader.execute(QUERIES["enroll_in_three"], {"courses": COURSES[-1:]})
        loader.execute("analyze")
    loader.execute(QUERIES["insert_more_users"], {"users": size})
    loader.execute(QUERIES["insert_profiles_again"])
