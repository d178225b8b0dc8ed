"""A report as a Nagios plugin's: one line with performance data, and a status of 0 to 3."""

from collections.abc import Mapping
from typing import Final

from pysync.texts import visible
from pysync.watching.status.model import CourseStatus, Level, Report

Thresholds = Mapping[str, tuple[float | None, float | None]]
"""By figure of :class:`CourseStatus`: from where it warns, and is critical; ``None`` for never."""

_PERFORMANCE: Final = (
    ("lag_bytes", "lag_bytes", "B"),
    ("lag", "lag_seconds", "s"),
    ("retained", "retained_wal_bytes", "B"),
)


def check(report: Report, thresholds: Thresholds) -> tuple[Level, str]:
    """Return the worst level of a report, and the line that says it.

    Catching up and copying are fine by themselves: thresholds say how far behind is too far. Where
    the portal has standbys, a course that wouldn't go on with them is a warning.
    """
    exposed = [each.course_id for each in report.courses if report.exposes(each)]
    levels = {each.course_id: _level(each, thresholds) for each in report.courses}
    levels |= {name: max(levels[name], Level.WARNING) for name in exposed}
    level = max((*levels.values(), Level.WARNING if report.orphans else Level.OK))
    wrong = []
    if report.unclaimed:
        level = Level.CRITICAL
        wrong.append(f"{report.unclaimed.object} unclaimed")
    wrong += [
        f"{each.course_id} {each.state.value}{', no failover' * (each.course_id in exposed)}"
        for each in sorted(report.courses, key=lambda each: -levels[each.course_id])
        if levels[each.course_id] is not Level.OK
    ]
    wrong += [f"{each.kind} {each.name} orphaned" for each in report.orphans]
    relays = sum(each.is_relay for each in report.courses)
    all_ = f"{len(report.courses) - relays} courses"
    all_ += f", {relays} relay{'s' if relays > 1 else ''}" if relays else ""
    said = (
        f"{len(wrong)} of {all_} or objects need attention: {', '.join(wrong)}"
        if wrong
        else f"{all_} as they should be"
    )
    performance = " ".join(_performance(each, thresholds) for each in report.courses)
    line = f"PYSYNC {level.name} - {_one_line(said)}"
    return level, f"{line} | {performance}" if performance else line


def _level(each: CourseStatus, thresholds: Thresholds) -> Level:
    found = [each.state.level]
    for figure, limits in thresholds.items():
        value = getattr(each, figure)
        sign = -1 if figure == "seconds_to_loss" else 1  # the less is left, the worse it is
        found += [
            level
            for level, limit in zip((Level.WARNING, Level.CRITICAL), limits, strict=True)
            if value is not None and limit is not None and sign * value >= sign * limit
        ]
    return max(found)


def _performance(each: CourseStatus, thresholds: Thresholds) -> str:
    label = _one_line(each.course_id).replace("'", "''").replace("=", "_")
    figures = [
        (name, getattr(each, key), unit, *thresholds.get(key, (None, None)))
        for name, key, unit in _PERFORMANCE
    ]
    errors = None if each.apply_errors is None else each.apply_errors + (each.sync_errors or 0)
    figures.append(("errors", errors, "c", None, None))
    return " ".join(
        f"'{label} {name}'={'U' if value is None else f'{value}{unit}'};"
        f"{'' if warning is None else warning};{'' if critical is None else critical};0"
        for name, value, unit, warning, critical in figures
    )


def _one_line(text: str) -> str:
    return visible(text).replace("|", "/")
