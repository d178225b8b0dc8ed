"""The demo: real registrations, replayed on a portal of its own while replication runs.

:mod:`pysync.demo.oulad` has the data, :mod:`pysync.demo.site` the servers and databases,
:mod:`pysync.demo.replay` writes to the portal, :mod:`pysync.demo.check` looks at what arrived,
:mod:`pysync.demo.examination` registers a student at a test center.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pysync.demo import check, examination, oulad, replay, site
from pysync.demo.check import Comparison
from pysync.demo.examination import Examination
from pysync.demo.replay import Counts
from pysync.demo.site import Site
from pysync.errors import DemoError
from pysync.types import Progress

__all__ = ["Examination", "Report", "Site", "differences", "run"]


@dataclass(frozen=True)
class Report:
    """What the demo did and found.

    ``setup_seconds`` is for servers and courses, ``replay_seconds`` from the first commit to the
    last, ``catch_up_seconds`` from then until every course had everything. ``latencies_seconds``
    are sorted.
    """

    counts: Counts
    setup_seconds: float
    replay_seconds: float
    catch_up_seconds: float
    comparisons: list[Comparison]
    latencies_seconds: list[float]
    examination: Examination
    site: Site


@contextmanager
def run(progress: Progress, *, keep: bool = False) -> Iterator[Report]:
    """Start servers, replay the registrations, compare portal and courses, measure.

    :param keep: leave servers and folder behind when the block ends; an error or an interrupt in
        the block or before it removes them all the same.
    :returns: a context with what was found; the servers run until its end.
    :raises PysyncError: if no server is found, doesn't start, or can't be set up.
    """
    registrations = oulad.read()
    began = time.perf_counter()
    with site.open_site(oulad.course_ids(registrations), progress, keep=keep) as opened:
        started = time.perf_counter()
        counts = replay.write_days(opened, oulad.days(registrations), progress)
        replayed = time.perf_counter()
        replay.catch_up(opened, progress)
        caught_up = time.perf_counter()
        comparisons = check.compare(opened, registrations, progress)
        yield Report(
            counts=counts,
            setup_seconds=started - began,
            replay_seconds=replayed - started,
            catch_up_seconds=caught_up - replayed,
            comparisons=comparisons,
            latencies_seconds=sorted(check.latencies(opened, progress)),
            examination=examination.register(opened),
            site=opened,
        )


def differences(comparisons: list[Comparison]) -> DemoError | None:
    """Return the error for what differs between portal and courses, or ``None``."""
    different = [each for each in comparisons if each.rows_that_differ]
    if not different:
        return None
    rows = sum(each.rows_that_differ for each in different)
    names = ", ".join(f"'{each.course_id}'" for each in different)
    return DemoError(
        f"demo found {rows:,} rows that differ between the portal and the databases of {names}"
    )
