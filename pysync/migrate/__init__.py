"""Bring databases to a revision of their lineage, and say where they are.

A portal database has lineage ``p0001``, …, a course database ``c0001``, …; both lie in
``migrations/``. Each database is migrated in one transaction; a run that fails or is killed leaves
it as it was.
"""

from pysync.migrate.lineage import Lineage
from pysync.migrate.revisions import current_revision, head_revision, require_head
from pysync.migrate.run import Migrated, migrate

__all__ = ["Lineage", "Migrated", "current_revision", "head_revision", "migrate", "require_head"]
