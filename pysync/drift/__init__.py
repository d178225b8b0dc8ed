"""Compare what databases hold with what pysync put there, as parse trees rather than as text."""

from pysync.drift.course import course_findings
from pysync.drift.portal import portal_findings, publication_findings

__all__ = ["course_findings", "portal_findings", "publication_findings"]
