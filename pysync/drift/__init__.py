"""Compare what databases hold with what pysync put there, as parse trees rather than as text."""

from pysync.drift.course import course_findings
from pysync.drift.objects import declarations
from pysync.drift.portal import portal_findings, publication_findings
from pysync.drift.revisions import head
from pysync.migrate.lineage import COURSE, PORTAL

__all__ = ["course_findings", "portal_findings", "prepare", "publication_findings"]


def prepare() -> None:
    """Read revisions and SQL files, before threads would: Alembic isn't made for them."""
    for lineage in (PORTAL, COURSE):
        head(lineage)
        declarations(lineage.name)
