"""Measure the sides of a ratio in turns, and sum the rounds up.

Other load on the machine changes from second to second, so a ratio of two runs means nothing. The
sides of a round follow each other at once, and every other round begins with the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    :param rate_rounds: rounds of rates; many short ones, since they suffer most from other load.
    :param rate_seconds: how long a side of such a round lasts.
    :param rounds: rounds of everything else.
    :param members: how many users a bulk statement is about.
    :param changes: how many single changes a side of a round times, one by one.
    :param carried: how many user updates a side of a round has courses wait for; half as many
        enrollments.
    :param mixed_seconds: how long a side of a round of mixed work lasts.
    :param repeats: how often a cell of the linearity matrix is measured; the least counts.
    :param sizes: the two sizes in that matrix, in rows.
    :param courses: how many courses are attached, one number after the other.
    :param scale_changes: how many changes their processor time is taken of; half as many at a
        given rate.
    """

    rate_rounds: int
    rate_seconds: float
    rounds: int
    members: int
    changes: int
    carried: int
    mixed_seconds: float
    repeats: int
    sizes: tuple[int, int]
    courses: tuple[int, ...]
    scale_changes: int


FULL = Effort(7, 1.2, 5, 30_000, 300, 6_000, 2.5, 2, (2_000, 8_000), (1, 8, 32, 100), 1_000)
QUICK = Effort(3, 0.6, 2, 4_000, 100, 1_200, 1, 1, (500, 2_000), (1, 4), 200)


@dataclass(frozen=True)
class Unit:
    """How a measured value is shown."""

    name: str
    factor: float = 1
    digits: int = 0

    def text(self, value: float) -> str:
        return f"{value * self.factor:,.{self.digits}f} {self.name}"


PER_SECOND = Unit("/s")
SECONDS = Unit("s", digits=3)
MILLISECONDS = Unit("ms", factor=1000, digits=3)
MICROSECONDS_PER_ROW = Unit("µs/row", factor=1_000_000, digits=1)


@dataclass(frozen=True)
class Row:
    """One line of the result as it is shown, and what it was made from."""

    title: str
    beside: str = ""
    pysync: str = ""
    ratio: float | None = None
    quartiles: tuple[float, float] | None = None
    target: str = "-"
    met: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)


def judge(
    value: float, at_least: float | None = None, at_most: float | None = None, unit: str = ""
) -> tuple[str, bool | None]:
    """Return a target in words and whether a value meets it; ``None`` where there is none."""
    if at_least is not None:
        return f"at least {at_least:g}{unit}", value >= at_least
    if at_most is not None:
        return f"at most {at_most:g}{unit}", value <= at_most
    return "-", None


@dataclass
class Comparison:
    """Values of each round beside pysync and with it.

    ``at_least`` and ``at_most`` bound the ratio "pysync / beside"; a line without either is only
    reported.
    """

    title: str
    unit: Unit
    at_least: float | None = None
    at_most: float | None = None
    beside: list[float] = field(default_factory=list)
    pysync: list[float] = field(default_factory=list)

    def row_no_slower(self, enrolling: Comparison, rows: float = 1) -> Row:
        """Sum the rounds up; what is bounded is the time with pysync, by that of enrolling.

        :param rows: how many times as many rows enrolling is about.
        """
        faster = self.unit is PER_SECOND
        mine, its = median(self.pysync) * rows, median(enrolling.pysync)
        return replace(
            self.row(),
            target="no slower than enrolling" + (", per row" if rows != 1 else ""),
            met=mine >= its if faster else mine <= its,
        )

    def row(self) -> Row:
        """Sum the rounds up: the median of their ratios counts, not the ratio of the medians."""
        ratios = [b / a for a, b in zip(self.beside, self.pysync, strict=True)]
        low, middle, high = quantiles(ratios, n=4, method="inclusive")
        target, met = judge(middle, self.at_least, self.at_most)
        return Row(
            self.title,
            self.unit.text(median(self.beside)),
            self.unit.text(median(self.pysync)),
            middle,
            (low, high),
            target,
            met,
            {"unit": self.unit.name, "beside": self.beside, "pysync": self.pysync},
        )


@dataclass
class Figure:
    """Values of pysync's that are bounded by themselves, in seconds."""

    title: str
    at_most_seconds: float | None = None
    values: list[float] = field(default_factory=list)

    def row(self) -> Row:
        low, middle, high = quantiles(self.values, n=4, method="inclusive")
        target, met = judge(middle, at_most=self.at_most_seconds, unit=" s")
        return Row(
            self.title,
            pysync=SECONDS.text(middle),
            target=target,
            met=met,
            details={"quartiles": [low, high], "values": self.values},
        )


def interleave(rounds: int, *sides: Callable[[], None]) -> Iterator[int]:
    """Run all sides once per round, the order turned round each time; yields the rounds done."""
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            side()
        yield number + 1


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie (0.99 for the 99th percentile)."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
