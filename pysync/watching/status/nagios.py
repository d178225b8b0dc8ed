"""A report as a Nagios plugin's: one line with performance data, and a status of 0 to 3."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pysync.watching.status.model import CourseStatus, Report, State


class Level(IntEnum):
    """Exit statuses as Nagios has them."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class Thresholds:
    """From where a figure warns, or is critical; ``None`` for never."""

    warning_lag_bytes: int | None = None
    critical_lag_bytes: int | None = None
    warning_lag_seconds: float | None = None
    critical_lag_seconds: float | None = None
    warning_retained_bytes: int | None = None
    critical_retained_bytes: int | None = None
    warning_loss_seconds: float | None = None
    critical_loss_seconds: float | None = None


_LEVELS: Final = {
    State.STREAMING: Level.OK,
    State.COPYING: Level.OK,
    State.CATCHING_UP: Level.OK,
    State.PAUSED: Level.WARNING,
    State.INCOMPLETE: Level.WARNING,
    State.ORPHANED: Level.CRITICAL,
    State.DRIFTED: Level.CRITICAL,
    State.STUCK: Level.CRITICAL,
    State.LOST: Level.CRITICAL,
    State.UNREACHABLE: Level.CRITICAL,
}
_WORST_FIRST: Final = (Level.CRITICAL, Level.UNKNOWN, Level.WARNING, Level.OK)


def check(report: Report, thresholds: Thresholds) -> tuple[Level, str]:
    """Return the worst level of a report, and the line that says it.

    Catching up and copying are fine by themselves: thresholds say how far behind is too far.
    """
    levels = {each.course_id: _level(each, thresholds) for each in report.courses}
    level = min(levels.values(), key=_WORST_FIRST.index, default=Level.OK)
    if report.orphans and level is Level.OK:
        level = Level.WARNING
    wrong = [
        f"{each.course_id} {each.state.value}"
        for each in sorted(
            report.courses, key=lambda each: _WORST_FIRST.index(levels[each.course_id])
        )
        if levels[each.course_id] is not Level.OK
    ]
    wrong += [f"{each.kind} {each.name} orphaned" for each in report.orphans]
    said = (
        f"{len(wrong)} of {len(report.courses)} courses or objects need attention: "
        + ", ".join(wrong)
        if wrong
        else f"{len(report.courses)} courses as they should be"
    )
    performance = " ".join(_performance(each, thresholds) for each in report.courses)
    line = f"PYSYNC {level.name} - {_one_line(said)}"
    return level, f"{line} | {performance}" if performance else line


def _level(each: CourseStatus, thresholds: Thresholds) -> Level:
    figures = (
        (each.lag_bytes, thresholds.warning_lag_bytes, thresholds.critical_lag_bytes),
        (each.lag_seconds, thresholds.warning_lag_seconds, thresholds.critical_lag_seconds),
        (
            each.retained_wal_bytes,
            thresholds.warning_retained_bytes,
            thresholds.critical_retained_bytes,
        ),
    )
    found = [_LEVELS[each.state]]
    for value, warning, critical in figures:
        if value is not None and critical is not None and value >= critical:
            found.append(Level.CRITICAL)
        elif value is not None and warning is not None and value >= warning:
            found.append(Level.WARNING)
    left = each.seconds_to_loss
    if left is not None:
        if (
            thresholds.critical_loss_seconds is not None
            and left <= thresholds.critical_loss_seconds
        ):
            found.append(Level.CRITICAL)
        elif (
            thresholds.warning_loss_seconds is not None and left <= thresholds.warning_loss_seconds
        ):
            found.append(Level.WARNING)
    return min(found, key=_WORST_FIRST.index)


def _performance(each: CourseStatus, thresholds: Thresholds) -> str:
    label = _one_line(each.course_id).replace("'", "''").replace("=", "_")
    figures = (
        (
            "lag_bytes",
            each.lag_bytes,
            "B",
            thresholds.warning_lag_bytes,
            thresholds.critical_lag_bytes,
        ),
        (
            "lag",
            each.lag_seconds,
            "s",
            thresholds.warning_lag_seconds,
            thresholds.critical_lag_seconds,
        ),
        (
            "retained",
            each.retained_wal_bytes,
            "B",
            thresholds.warning_retained_bytes,
            thresholds.critical_retained_bytes,
        ),
        (
            "errors",
            None if each.apply_errors is None else each.apply_errors + (each.sync_errors or 0),
            "c",
            None,
            None,
        ),
    )
    return " ".join(
        f"'{label} {name}'={'U' if value is None else value}{'' if value is None else unit};"
        f"{'' if warning is None else warning};{'' if critical is None else critical};0"
        for name, value, unit, warning, critical in figures
    )


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
