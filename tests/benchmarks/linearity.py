"""Whether a bulk statement's cost grows with its rows, whatever the statistics and plans are.

A portal of so many users, all with profiles, is made for each run; the same statements follow each
other there, each about as many rows as there are users. What counts is the time per row in the larger
portal beside that in the smaller one: a plan that meets each row with each shows as four times.
Autovacuum is off. Runs differ in

- statistics: made of empty tables, of a few rows (stale), of the rows as they are (fresh), or missing;
- sessions: a new one for each statement, or one that has run each of them when the tables were empty.

Each cell is measured in several databases, and its least time counts: other load only adds to it. A
statement that takes too long is ended there, and nothing that would have followed it is measured.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import count, product

from psycopg import sql
from psycopg.errors import QueryCanceled

from pysync.db.connections import Connection, connect
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.types import CourseId
from tests.benchmarks.measure import MICROSECONDS_PER_ROW, Effort, Row, judge
from tests.benchmarks.pair import QUERIES, Pair, register_only

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


def measure(pair: Pair, effort: Effort) -> list[Row]:
    """Return a row per statement: its worst cell, and all cells among the details."""
    seconds = {size: defaultdict[Cell, list[float]](list) for size in effort.sizes}
    make_template(pair)
    for repeat in range(effort.repeats):
        for statistics, session, size in product(STATISTICS, SESSIONS, effort.sizes):
            for statement, per_row in _run(pair, statistics, session, size):
                seconds[size][Cell(statement, statistics, session)].append(per_row)
        pair.say(f"linearity: repeat {repeat + 1} of {effort.repeats}")
    smaller, larger = ({cell: min(v) for cell, v in seconds[size].items()} for size in effort.sizes)
    return [_row(statement, smaller, larger, effort) for statement in STATEMENTS]


def make_template(pair: Pair) -> None:
    """Migrate a database once: the runs have copies."""
    conninfo = pair.portal.create_database(_template)
    migrate(conninfo, PORTAL, "portal")
    with closing(connect(conninfo)) as portal:
        register_only(portal, COURSES)


def _row(
    statement: str, smaller: dict[Cell, float], larger: dict[Cell, float], effort: Effort
) -> Row:
    cells = [cell for cell in larger if cell.statement == statement and cell in smaller]
    if not cells:
        return Row(f"{statement.replace('_', ' ')}: another statement took too long", met=False)
    ratios = {cell: larger[cell] / smaller[cell] for cell in cells}
    worst = max(ratios, key=ratios.__getitem__)
    target, met = judge(ratios[worst], at_most=AT_MOST)
    few, many = effort.sizes
    return Row(
        f"{statement.replace('_', ' ')}: {many:,} rows beside {few:,}; worst: {worst.statistics},"
        f" {worst.session}",
        MICROSECONDS_PER_ROW.text(smaller[worst]),
        MICROSECONDS_PER_ROW.text(larger[worst]),
        ratios[worst],
        (min(ratios.values()), sorted(ratios.values())[-2]),
        target,
        met,
        {
            "cells": [
                {
                    "statistics": cell.statistics,
                    "session": cell.session,
                    "microseconds_per_row": [smaller[cell] * 1e6, larger[cell] * 1e6],
                    "ratio": ratio,
                }
                for cell, ratio in ratios.items()
            ]
        },
    )


def _run(pair: Pair, statistics: str, session: str, size: int) -> Iterator[tuple[str, float]]:
    """Make a portal and run all statements there; yields each with its seconds per row."""
    with _copy(pair) as conninfo, closing(connect(conninfo)) as loader:
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
                    with suppress(QueryCanceled):
                        chosen.execute(QUERIES[statement])
                    seconds = time.perf_counter() - begin
                yield statement, seconds / size
                if seconds > LIMIT_SECONDS:
                    pair.say(f"{statement}, {statistics}, {session}, {size} rows: took too long")
                    break


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
    loader.execute("checkpoint")
