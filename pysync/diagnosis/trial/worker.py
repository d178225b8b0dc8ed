"""With whose rights a course's worker applies a change."""

from dataclasses import dataclass
from typing import Self

from psycopg import sql

from pysync.db.catalog import quoted_name
from pysync.db.connections import Connection, fetch_row
from pysync.db.queries import load
from pysync.findings import IN_COURSE, Finding, run
from pysync.replication.registry import Course
from pysync.replication.settings import has_setting

_QUERIES = load(__file__)


class RefusedError(Exception):
    """A worker may not act as it has to.

    :param finding: why, and what mends it.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


@dataclass(frozen=True)
class Worker:
    """Whose rights a subscription's workers have.

    :param owner: the subscription's; ``None`` if it is missing.
    :param for_all: as it they apply all changes, as up to 15; else each as its table's owner.
    """

    subscription: str
    owner: str | None
    for_all: bool

    @classmethod
    def of(cls, database: Connection, course: Course) -> Self:
        """Return that of a course."""
        name = course.replication_name
        as_owner = sql.SQL("s.subrunasowner" if has_setting(database, "subrunasowner") else "true")
        query = _QUERIES["worker"].format(as_owner=as_owner)
        return cls(name, *(database.execute(query, {"name": name}).fetchone() or (None, False)))

    def role(self, database: Connection, table_owner: str) -> str:
        """Return as which role the change of a table is applied.

        :raises RefusedError: if the subscription's owner may not act as that.
        """
        if self.owner is None or self.owner == table_owner:
            return table_owner
        if self.for_all:
            return self.owner
        (may,) = fetch_row(database, _QUERIES["may_act_as"], self.owner, table_owner)
        if not may:
            # Who made it may act as the owners of all its tables.
            ours = quoted_name(str(database.info.user))
            alter = f"alter subscription {quoted_name(self.subscription)} owner to {ours}"
            raise RefusedError(
                Finding(
                    f"subscription '{self.subscription}'",
                    f"belongs to role '{self.owner}', which may not act as '{table_owner}', whose "
                    "tables it writes",
                    run(alter, IN_COURSE),
                )
            )
        return table_owner
