"""Say how each course is, also when it can't be asked."""

from pysync.watching.status.model import CourseStatus, Level, Report, State
from pysync.watching.status.report import report, revisions, status

__all__ = ["CourseStatus", "Level", "Report", "State", "report", "revisions", "status"]
