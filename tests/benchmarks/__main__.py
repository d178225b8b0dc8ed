"""Print what pysync costs, as ratios measured in one run on one pair of servers.

Run as ``python -m tests.benchmarks [--quick] [--format json] [NAME…]``. Nothing here is a test: a
ratio that misses its target is printed, not failed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks import (
    carried,
    latency,
    linearity,
    many,
    mixed,
    new_course,
    scale,
    singles,
    statements,
    updates,
)
from tests.benchmarks.measure import FULL, QUICK, Effort, Row
from tests.benchmarks.pair import Pair, Say, describe, server_pair
from tests.benchmarks.peers import bench as peers

BENCHMARKS: dict[str, Callable[[Pair, Effort], list[Row]]] = {
    # In this order: up to the statements no subscription is to be attached; (c) leaves disabled ones.
    "updates": updates.measure,
    "singles": singles.measure,
    "carried": carried.measure,
    "statements": statements.measure,
    "linearity": linearity.measure,
    "mixed": mixed.measure,
    "latency": latency.measure,
    "course": new_course.measure,
    "visible": statements.measure_until_visible,
}

ALONE: dict[str, Callable[[Say, Effort], list[Row]]] = {
    "peers": peers.measure,
    "scale": scale.measure,
    "many": many.measure,
}
"""Those with servers of their own, which are run when they are named."""

BUSY = 0.5
"""The load average, before anything is started, from which on ratios are doubtful."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of it, less to rely on")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    names = [*BENCHMARKS, *ALONE]
    for name in ALONE:
        parser.add_argument(f"--{name}", action="append_const", dest="more", const=name, default=[])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which to run, of: {', '.join(names)}"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    wanted = {*(arguments.names or BENCHMARKS), *arguments.more}
    effort = QUICK if arguments.quick else FULL
    begin = time.monotonic()
    load = os.getloadavg()[0]
    aside = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        aside.print(f"{time.monotonic() - begin:5.0f} s  {text}", markup=False)

    rows: list[Row] = []
    about = ""
    try:
        if shared := [name for name in BENCHMARKS if name in wanted]:
            say("starting two servers")
            with server_pair(say) as pair:
                about = describe(pair)
                for name in shared:
                    rows += BENCHMARKS[name](pair, effort)
        for name, measure in ALONE.items():
            if name in wanted:
                rows += measure(say, effort)
    finally:
        # What was measured before an error isn't lost.
        about += f"\nMeasured in {time.monotonic() - begin:.0f} s; load average before {load:.1f}."
        if arguments.format == "json":
            result = {"about": about, "rows": [asdict(row) for row in rows]}
            Console(highlight=False, soft_wrap=True).print_json(data=result)
        else:
            show(rows, about, effort)
    if load > BUSY:
        say(f"The load average was {load:.1f} before: what else runs here falsifies the ratios.")


def show(rows: list[Row], about: str, effort: Effort) -> None:
    """Print the result: a line per comparison, then how it was measured."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for column in ("beside", "pysync", "ratio", "quartiles"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for row in rows:
        verdict = {True: ", met", False: ", MISSED", None: ""}[row.met]
        table.add_row(
            row.title,
            row.beside,
            row.pysync,
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.quartiles is None else "{:.2f} to {:.2f}".format(*row.quartiles),
            row.target + verdict,
        )
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=150)
    console.print(table)
    console.print(
        "Beside pysync: the same without its triggers, unless it says otherwise. The sides take turns in"
        f" {effort.rounds} rounds\n({effort.rate_rounds} of rates). Values are medians over the rounds;"
        " each round has a ratio of its own, whose median and quartiles\nare shown. Linearity: at"
        " worst, in a portal of {:,} users and in one of {:,}; other cells instead of quartiles: the\n"
        "least and the next to the greatest ratio.\n".format(*effort.sizes)
        + about,
        markup=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
