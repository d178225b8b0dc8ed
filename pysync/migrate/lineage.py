"""The two lineages: which revisions, which schemas, which models."""

from dataclasses import dataclass

from sqlalchemy import MetaData

import pysync.models.accounts
import pysync.models.discussion
import pysync.models.profiles
import pysync.models.testcenter  # noqa: F401 - their tables are part of the metadata
from pysync.adoption import Side
from pysync.models.course import CourseDatabaseBase
from pysync.models.portal import PortalBase


@dataclass(frozen=True)
class Lineage:
    """A sequence of revisions for one kind of database.

    :param name: also the folder below ``migrations/``.
    :param version_schema: where Alembic's version table is.
    :param schemas: the schemas that are pysync's own in such a database.
    :param metadata: the declared tables.
    :param side: for adoption.
    """

    name: str
    version_schema: str
    schemas: tuple[str, ...]
    metadata: MetaData
    side: Side


PORTAL = Lineage(
    "portal", "pysync", ("pysync", "course", "student"), PortalBase.metadata, Side.PORTAL
)
COURSE = Lineage("course", "course", ("course",), CourseDatabaseBase.metadata, Side.COURSE)
