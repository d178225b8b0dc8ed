"""A report as Prometheus metrics; every series is there, also of slots that are missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pysync.watching.status.model import CourseStatus, Report, State

_LABELS: Final = ("slot_name", "course_id")
_NAN: Final = float("nan")

_GAUGES: Final = {
    "pysync_lag_bytes": ("lag_bytes", "WAL that the course hasn't applied yet"),
    "pysync_lag_seconds": ("lag_seconds", "Age of the newest mark that is visible in the course"),
    "pysync_retained_wal_bytes": ("retained_wal_bytes", "WAL that the portal keeps for the course"),
    "pysync_time_to_loss_seconds": (
        "seconds_to_loss",
        "Until the slot would be given up at the present WAL rate if nothing more were confirmed",
    ),
    "pysync_tables_ready": ("tables_ready", "Tables whose first copy is complete"),
    "pysync_tables": ("tables_total", "Tables that the course subscribes to"),
    "pysync_verify_differences": ("differences", "Rows that differed at the last verify"),
}
_COUNTERS: Final = {
    "pysync_apply_errors": ("apply_errors", "Errors of the apply worker"),
    "pysync_sync_errors": ("sync_errors", "Errors of first copies"),
    "pysync_conflicts": ("conflicts", "Conflicts that the course server counted (18 and later)"),
}


def prometheus_text(report: Report) -> str:
    """Return a report in Prometheus' text format; what isn't known is ``NaN``."""
    registry = CollectorRegistry()
    registry.register(ReportCollector(report))
    return generate_latest(registry).decode()


class ReportCollector(Collector):
    """Presents a report to a Prometheus registry."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        courses = self._report.courses
        for name, (key, help_text) in _GAUGES.items():
            yield _gauge(name, help_text, courses, key)
        for name, (key, help_text) in _COUNTERS.items():
            counter = CounterMetricFamily(name, help_text, labels=_LABELS)
            for each in courses:
                counter.add_metric(_labels(each), _number(getattr(each, key)))
            yield counter
        active = GaugeMetricFamily(
            "pysync_slot_active", "Whether the slot is in use (0 if missing)", labels=_LABELS
        )
        verified = GaugeMetricFamily(
            "pysync_verified_timestamp_seconds", "When the course was last verified", labels=_LABELS
        )
        drift = GaugeMetricFamily(
            "pysync_drift", "Objects that aren't as they should be", labels=_LABELS
        )
        states = GaugeMetricFamily(
            "pysync_state", "1 for the state that the course is in", labels=(*_LABELS, "state")
        )
        for each in courses:
            active.add_metric(_labels(each), float(bool(each.slot_active)))
            at = each.verified_at.timestamp() if each.verified_at else _NAN
            verified.add_metric(_labels(each), at)
            drift.add_metric(_labels(each), float(len(each.drift)))
            for state in State:
                states.add_metric([*_labels(each), state.value], float(each.state is state))
        yield from (active, verified, drift, states)
        orphans = GaugeMetricFamily(
            "pysync_orphan_retained_wal_bytes",
            "WAL kept for a slot, or 0 for another object, that belongs to no course",
            labels=("slot_name", "kind"),
        )
        for orphan in self._report.orphans:
            orphans.add_metric([orphan.name, orphan.kind], float(orphan.retained_wal_bytes or 0))
        yield orphans
        yield GaugeMetricFamily("pysync_courses", "Registered courses", value=len(courses))
        yield GaugeMetricFamily(
            "pysync_report_timestamp_seconds",
            "When the report was made, by the portal's clock",
            value=self._report.at.timestamp(),
        )


def _gauge(name: str, help_text: str, courses: list[CourseStatus], key: str) -> Metric:
    gauge = GaugeMetricFamily(name, help_text, labels=_LABELS)
    for each in courses:
        gauge.add_metric(_labels(each), _number(getattr(each, key)))
    return gauge


def _labels(each: CourseStatus) -> list[str]:
    return [each.slot_name, each.course_id]


def _number(value: float | None) -> float:
    return _NAN if value is None else float(value)
