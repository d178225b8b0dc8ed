"""Compare what databases hold with what pysync put there, as parse trees rather than as text."""

from pysync.diagnosis.drift.course import course_findings
from pysync.diagnosis.drift.objects import declarations
from pysync.diagnosis.drift.portal import portal_findings, publication_findings
from pysync.migrate.lineage import COURSE, PORTAL

__all__ = ["course_findings", "portal_findings", "prepare", "publication_findings"]


def prepare() -> None:
    """Read SQL files before threads would, each for itself."""
    for lineage in (PORTAL, COURSE):
        declarations(lineage.name)
