"""Print what pysync costs, as ratios measured in one run on one pair of servers.

Run as ``python -m tests.benchmarks [--quick] [a b c d]``. Nothing here is a test: a ratio that
misses its target is printed, not failed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks import enrolling, latency, updates
from tests.benchmarks.measure import FULL, QUICK, Comparison, Effort
from tests.benchmarks.pair import Pair, describe, server_pair

BENCHMARKS: dict[str, Callable[[Pair, Effort], list[Comparison]]] = {
    # In this order: (a) and (b) are to have no subscription attached; (c) leaves disabled ones.
    "a": updates.measure,
    "b": enrolling.measure_statement,
    "c": latency.measure,
    "d": enrolling.measure_until_visible,
}

BUSY = 0.5
"""The load average, before anything is started, from which on ratios are doubtful."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="half a minute, less to rely on")
    parser.add_argument(
        "names", nargs="*", metavar="a b c d", help="which ones to run; all by default"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    effort = QUICK if arguments.quick else FULL
    begin = time.monotonic()
    load = os.getloadavg()[0]
    aside = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        aside.print(f"{time.monotonic() - begin:5.0f} s  {text}", markup=False)

    lines: list[Comparison] = []
    say("starting two servers")
    with server_pair(say) as pair:
        about = describe(pair)
        for name, measure in BENCHMARKS.items():
            if name in (arguments.names or BENCHMARKS):
                lines += measure(pair, effort)
    show(lines, about, effort, time.monotonic() - begin)
    if load > BUSY:
        say(f"The load average was {load:.1f} before: what else runs here falsifies the ratios.")


def show(lines: list[Comparison], about: str, effort: Effort, seconds: float) -> None:
    """Print the result: a line per comparison, then how it was measured."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for column in ("without", "with pysync", "ratio", "quartiles"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for line in lines:
        low, _, high = line.quartiles
        verdict = {True: ", met", False: ", MISSED", None: ""}[line.met]
        table.add_row(
            line.title,
            *(line.unit.text(value) for value in line.medians),
            f"{line.ratio:.2f}",
            f"{low:.2f} to {high:.2f}",
            line.target + verdict,
        )
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=140)
    console.print(table)
    console.print(
        f"{about}\n"
        f"The two sides of a ratio take turns in {effort.rounds} rounds ({effort.rate_rounds} in "
        "(a)). Values are medians over the rounds; each round has\na ratio of its own, whose median "
        f"and quartiles are shown. Measured in {seconds:.0f} s.",
        markup=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
