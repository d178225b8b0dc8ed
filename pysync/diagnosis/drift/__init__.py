"""Compare what databases hold with what pysync put there."""

from pysync.diagnosis.drift.course import course_drift
from pysync.diagnosis.drift.membership import undecided
from pysync.diagnosis.drift.portal import portal_findings, publication_findings

__all__ = ["course_drift", "portal_findings", "publication_findings", "undecided"]
