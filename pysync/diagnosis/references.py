"""A site's own foreign keys on rows that replication deletes.

Apply workers fire no ordinary triggers, and a foreign key is made of such: what points at an
enrollment that is replicated away points at nothing from then on. PostgreSQL follows a key for
replication, too, once its trigger is enabled for it, which only a superuser may do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from psycopg import sql
from psycopg.rows import class_row

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.findings import IN_COURSE, Finding, run
from pysync.models.replicated import REPLICATED, REPLICATED_TABLES

_QUERIES: Final = load(__file__)
_CHECKS: Final = ("a", "r")
"""``pg_constraint.confdeltype`` of keys that refuse a deletion, and would stop replication."""


@dataclass(frozen=True)
class OwnReference:
    """A foreign key of a site's own.

    :param on_delete: as ``pg_constraint.confdeltype`` has it.
    :param trigger: PostgreSQL's own, which follows a deletion.
    :param followed: whether that fires for replication.
    """

    name: str
    schema: str
    table: str
    referred_schema: str
    referred_table: str
    columns: list[str]
    referred: list[str]
    on_delete: str
    definition: str
    trigger: str
    followed: bool

    @property
    def subject(self) -> str:
        """Return what it is called in findings."""
        return f"foreign key '{self.name}' of {self.schema}.{self.table}"

    @property
    def identifier(self) -> sql.Identifier:
        """Return the name of the table that points."""
        return sql.Identifier(self.schema, self.table)

    @property
    def target(self) -> sql.Identifier:
        """Return the name of the table that it points at."""
        return sql.Identifier(self.referred_schema, self.referred_table)


def own_references(database: Connection) -> list[OwnReference]:
    """Return a site's own foreign keys on rows that replication deletes."""
    deleted = [table.name for table in REPLICATED if not table.scrubbed]
    names = {"replicated": list(REPLICATED_TABLES), "deleted": deleted}
    with database.cursor(row_factory=class_row(OwnReference)) as cursor:
        return cursor.execute(_QUERIES["own_references"], names).fetchall()


def reference_findings(database: Connection) -> Iterator[Finding]:
    """Name the keys that replication doesn't follow, with the way out."""
    for each in own_references(database):
        if each.followed and each.on_delete not in _CHECKS:
            continue
        cause = (
            f"isn't kept by replication {IN_COURSE}: when it deletes from {each.referred_schema}."
            f"{each.referred_table}, rows that point there point at nothing"
        )
        if each.on_delete in _CHECKS:
            cause += ", and a key that refuses deletions would stop it"
            statement = sql.SQL(
                "alter table {table} drop constraint {name}, add constraint {name} {definition}"
            ).format(
                table=each.identifier,
                name=sql.Identifier(each.name),
                definition=sql.SQL(_cascading(each.definition)),
            )
            more = "; then 'pysync doctor' once more"
        else:
            statement = sql.SQL("alter table {} enable always trigger {}").format(
                each.target, sql.Identifier(each.trigger)
            )
            more = " as a superuser, also after the key was made anew or restored from a dump"
        remedy = run(statement.as_string(database), IN_COURSE) + more
        yield Finding(each.subject, cause, remedy, must=False)


def _cascading(definition: str) -> str:
    """Return the definition of a key that refuses deletions as one that follows them."""
    for clause in (" ON DELETE RESTRICT", " ON DELETE NO ACTION"):
        definition = definition.replace(clause, "")
    head, deferrable, rest = definition.partition(" DEFERRABLE")
    head, not_valid, _ = head.partition(" NOT VALID")
    return f"{head} ON DELETE CASCADE{deferrable}{rest}{not_valid}"
