"""Measure two sides of a ratio in turns, and sum the rounds up.

Other load on the machine changes from second to second, so a ratio of two runs means nothing. The
two sides of a round follow each other at once, and every other round begins with the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median, quantiles


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    :param rate_rounds: rounds of (a); many short ones, since rates suffer most from other load.
    :param rate_seconds: how long a side of a round of (a) lasts.
    :param rounds: rounds of everything else.
    :param members: how many users (b) and (d) enroll.
    :param changes: how many single updates a side of a round of (c) times.
    """

    rate_rounds: int
    rate_seconds: float
    rounds: int
    members: int
    changes: int


FULL = Effort(rate_rounds=15, rate_seconds=1.2, rounds=7, members=30_000, changes=300)
QUICK = Effort(rate_rounds=5, rate_seconds=0.6, rounds=3, members=10_000, changes=100)


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


@dataclass
class Comparison:
    """One line of the result: values of each round without pysync and with it.

    ``at_least`` and ``at_most`` bound the ratio "with / without"; a line without either is only
    reported.
    """

    title: str
    unit: Unit
    at_least: float | None = None
    at_most: float | None = None
    without: list[float] = field(default_factory=list)
    with_pysync: list[float] = field(default_factory=list)

    @property
    def medians(self) -> tuple[float, float]:
        """Return the medians without pysync and with it."""
        return median(self.without), median(self.with_pysync)

    @property
    def ratio(self) -> float:
        """Return the median of the rounds' ratios."""
        return self.quartiles[1]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Return the quartiles of the rounds' ratios: far apart where other load disturbs."""
        ratios = [b / a for a, b in zip(self.without, self.with_pysync, strict=True)]
        low, middle, high = quantiles(ratios, n=4, method="inclusive")
        return low, middle, high

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:.2f}"
        return "-" if self.at_most is None else f"at most {self.at_most:.1f}"

    @property
    def met(self) -> bool | None:
        """Return whether the target is met; ``None`` where there is none."""
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return None if self.at_most is None else self.ratio <= self.at_most


def interleave(
    rounds: int, without: Callable[[], None], with_pysync: Callable[[], None]
) -> Iterator[int]:
    """Run both sides once per round, the order turned round each time; yields the rounds done."""
    for number in range(rounds):
        sides = (without, with_pysync) if number % 2 == 0 else (with_pysync, without)
        for side in sides:
            side()
        yield number + 1


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie (0.99 for the 99th percentile)."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
