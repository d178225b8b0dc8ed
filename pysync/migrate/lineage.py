"""The two lineages: which revisions, which schemas, which models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pysync.types import Side

if TYPE_CHECKING:  # it takes a while to import, and most commands don't migrate
    from sqlalchemy import MetaData


@dataclass(frozen=True)
class Lineage:
    """A sequence of revisions for one kind of database.

    :param version_schema: where Alembic's version table is.
    :param schemas: the schemas that are pysync's own in such a database.
    :param side: whose it is; its name is also the folder's below ``migrations/``.
    """

    version_schema: str
    schemas: tuple[str, ...]
    side: Side

    @property
    def name(self) -> str:
        """Return what the lineage is called."""
        return self.side.value

    @property
    def metadata(self) -> MetaData:
        """Return the declared tables."""
        if self.side is Side.COURSE:
            from pysync.models.course import CourseDatabaseBase

            return CourseDatabaseBase.metadata
        import pysync.models.accounts
        import pysync.models.discussion
        import pysync.models.profiles
        import pysync.models.testcenter  # noqa: F401 - their tables are part of it
        from pysync.models.portal import PortalBase

        return PortalBase.metadata


PORTAL: Final = Lineage("pysync", ("pysync", "course", "student"), Side.PORTAL)
COURSE: Final = Lineage("course", ("course",), Side.COURSE)
