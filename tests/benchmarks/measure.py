"""Measure two sides of a ratio in turns, and sum the rounds up.

Other load on the machine changes from second to second, so a ratio of two runs means nothing. The
two sides of a round follow each other at once, and every other round begins with the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Effort:
    """How long to measure: the full run takes two to three minutes, the quick one half a minute.

    ``seconds`` is how long a side of a round of (a) lasts, ``members`` how many users (b) and (d)
    enroll, ``changes`` how many single updates a side of a round of (c) times.
    """

    rounds: int
    seconds: float
    members: int
    changes: int


FULL = Effort(rounds=7, seconds=2.5, members=30_000, changes=300)
QUICK = Effort(rounds=3, seconds=1.0, members=10_000, changes=100)


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
        """Return the ratio of the two medians."""
        without, with_pysync = self.medians
        return with_pysync / without

    @property
    def ratios(self) -> list[float]:
        """Return each round's own ratio: how much they differ is how much the machine is shared."""
        return [b / a for a, b in zip(self.without, self.with_pysync, strict=True)]

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
