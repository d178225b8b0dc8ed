"""A report as Prometheus metrics; every series is there, also of slots that are missing."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pysync.texts import visible
from pysync.types import RELAY_PREFIX
from pysync.watching.status.model import CourseStatus, Report, State

_LABELS: Final = ("slot_name", "course_id")

_GAUGES: Final[dict[str, tuple[str, Callable[[CourseStatus], float | None]]]] = {
    "lag_bytes": ("WAL that the course hasn't applied yet", lambda c: c.lag_bytes),
    "lag_seconds": ("Age of the newest mark visible in the course", lambda c: c.lag_seconds),
    "retained_wal_bytes": (
        "WAL that the portal keeps for the course",
        lambda c: c.retained_wal_bytes,
    ),
    "time_to_loss_seconds": (
        "Until the slot would be given up at the present WAL rate if nothing more were confirmed",
        lambda c: c.seconds_to_loss,
    ),
    "tables_ready": ("Tables whose first copy is complete", lambda c: c.tables_ready),
    "tables": ("Tables that the course subscribes to", lambda c: c.tables_total),
    "verify_differences": ("Rows that differed at the last verify", lambda c: c.differences),
    "slot_active": ("Whether the slot is in use (0 if missing)", lambda c: bool(c.slot_active)),
    "verified_timestamp_seconds": (
        "When the course was last verified",
        lambda c: c.verified_at.timestamp() if c.verified_at else None,
    ),
    "unverified": (
        "Whether its server was started anew since the course was last known to be whole",
        lambda c: c.unverified_since is not None,
    ),
    "failover_ready": (
        "Whether the course would go on if the portal's server died now",
        lambda c: c.failover_ready,
    ),
    "drift": ("Objects that aren't as they should be", lambda c: len(c.drift)),
    "level": (
        "How bad the course's state is: 0 well, 1 warning, 2 critical",
        lambda c: c.state.level,
    ),
}
_COUNTERS: Final[dict[str, tuple[str, Callable[[CourseStatus], float | None]]]] = {
    "apply_errors": ("Errors of the apply worker", lambda c: c.apply_errors),
    "sync_errors": ("Errors of first copies", lambda c: c.sync_errors),
    "spill_bytes": (
        "What decoding for the course wrote to the portal's disk",
        lambda c: c.spill_bytes,
    ),
    "conflicts": ("Conflicts that the course server counted (18 and later)", lambda c: c.conflicts),
}


def prometheus_text(report: Report | None, *, up: bool | None = None) -> str:
    """Return a report in Prometheus' text format; what isn't known is ``NaN``.

    :param up: whether the portal answers and the report is new, where somebody watches.
    """
    registry = CollectorRegistry()
    registry.register(_Metrics(report, up))
    return generate_latest(registry).decode()


class _Metrics(Collector):
    """What a Prometheus registry asks."""

    def __init__(self, report: Report | None, up: bool | None) -> None:
        self._report, self._up = report, up

    def collect(self) -> Iterator[Metric]:
        """Return all metrics."""
        return _metrics(self._report, self._up)


def _metrics(report: Report | None, up: bool | None) -> Iterator[Metric]:
    if up is not None:
        told = "Whether the portal answers and the report is new"
        yield GaugeMetricFamily("pysync_up", told, value=float(up))
    if report is None:
        return
    for kind, figures in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
        for name, (help_text, value) in figures.items():
            family = kind(f"pysync_{name}", help_text, labels=_LABELS)
            for each in report.courses:
                known = value(each)
                number = float("nan") if known is None else float(known)
                family.add_metric([each.slot_name, visible(each.course_id)], number)
            yield family
    states = GaugeMetricFamily(
        "pysync_state", "1 for the state that the course is in", labels=(*_LABELS, "state")
    )
    for each in report.courses:
        for state in State:
            labels = [each.slot_name, visible(each.course_id), state.value]
            states.add_metric(labels, float(each.state is state))
    yield states
    yield from _hops(report)
    orphans = GaugeMetricFamily(
        "pysync_orphan_retained_wal_bytes",
        "WAL kept for a slot, or 0 for another object, that belongs to no course",
        labels=("slot_name", "kind"),
    )
    for orphan in report.orphans:
        orphans.add_metric(
            [visible(orphan.name), orphan.kind], float(orphan.retained_wal_bytes or 0)
        )
    yield orphans
    yield GaugeMetricFamily(
        "pysync_unclaimed",
        "Whether the portal is a copy, or was moved: it may not act on courses",
        value=float(report.unclaimed is not None),
    )
    yield GaugeMetricFamily(
        "pysync_standbys",
        "Servers of the portal's that are named beside the one that accepts writes",
        value=report.standbys,
    )
    yield GaugeMetricFamily(
        "pysync_report_timestamp_seconds",
        "When the report was made, by the portal's clock",
        value=report.at.timestamp(),
    )


def _hops(report: Report) -> Iterator[Metric]:
    """Return what courses stream from, and how many of them, and of relays, there are."""
    hops = GaugeMetricFamily(
        "pysync_streams_from",
        "1 for the relay that the course streams from; none if it is the portal",
        labels=(*_LABELS, "relay"),
    )
    for each in report.courses:
        relay = (each.relay or "").removeprefix(RELAY_PREFIX)
        hops.add_metric([each.slot_name, visible(each.course_id), relay], 1.0)
    yield hops
    relays = sum(each.is_relay for each in report.courses)
    courses = len(report.courses) - relays
    yield GaugeMetricFamily("pysync_courses", "Registered courses", value=courses)
    yield GaugeMetricFamily("pysync_relays", "Registered relays", value=relays)
