"""What a role that isn't a superuser must have, so that pysync works as it.

One list for each side: ``pysync grants`` prints it, ``doctor`` asks the catalogs for what is
missing of it, and the administrators' page shows it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from psycopg import errors, sql

from pysync.db.catalog import quoted_name
from pysync.db.connections import Connection, fetch_row, fetch_value
from pysync.db.queries import load
from pysync.errors import UnsuitableServerError
from pysync.findings import IN_COURSE, ON_PORTAL, Finding, run
from pysync.migrate.lineage import PORTAL as PORTAL_LINEAGE
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication.subscriptions import UNLOGGED
from pysync.types import COURSE_ROLE, PORTAL_ROLES, SUPPORTED_MAJORS

_QUERIES: Final = load(__file__)
_LOGGING: Final = {name: value for name, value in UNLOGGED.items() if "." not in name}
"""Without those of an extension, which may not be there."""


@dataclass(frozen=True)
class Grant:
    """A right that a role needs.

    :param right: its name.
    :param why: what it is for.
    :param statement: what grants it; ``{role}`` and ``{database}`` are identifiers.
    :param granted: an SQL expression that says whether we have it, in the database where it is
        needed; null where the server doesn't know of it.
    :param since: the first major version that knows it.
    :param settings: what it lets us set: tried, since a provider's extension may let us, too.
    """

    right: str
    why: str
    statement: sql.SQL
    granted: str
    since: int = SUPPORTED_MAJORS[0]
    settings: Mapping[str, str] = field(default_factory=dict)

    def to(self, role: str, database: str) -> str:
        """Return the statement that gives a role this right."""
        places = {"role": sql.Identifier(role), "database": sql.Identifier(database)}
        return self.statement.format(**places).as_string(None)


def _member(role: str, why: str, since: int = SUPPORTED_MAJORS[0]) -> Grant:
    granted = f"pg_has_role(to_regrole('{role}'), 'usage')"
    return Grant(role, why, sql.SQL(f"grant {role} to {{role}}"), granted, since)


def _attribute(name: str, why: str) -> Grant:
    granted = f"(select rol{name} from pg_roles where rolname = current_user)"  # noqa: S608
    return Grant(name.upper(), why, sql.SQL(f"alter role {{role}} {name}"), granted)


def _parameters(why: str, settings: Mapping[str, str]) -> Grant:
    listed = ", ".join(settings)
    statement = sql.SQL(f"grant set on parameter {listed} to {{role}}")
    return Grant(f"SET {listed}", why, statement, "true", settings=settings)


def _own_roles(which: str, why: str, statement: sql.SQL, *roles: str) -> Grant:
    granted = " and ".join(
        f"coalesce(pg_has_role(to_regrole('{name}'), 'usage'), false)" for name in roles
    )
    return Grant(f"membership in pysync's own {which}", why, statement, granted)


_DATABASE: Final = Grant(
    "CREATE on the database",
    "makes schemas, publications and subscriptions",
    sql.SQL("grant create, temporary on database {database} to {role}"),
    "has_database_privilege(current_database(), 'create, temporary')",
)
_PUBLIC: Final = Grant(
    "CREATE on schema public",
    "makes, or takes over, the applications' tables",
    sql.SQL("grant create, usage on schema public to {role}"),
    "has_schema_privilege('public', 'create')",
)
_MONITOR: Final = _member("pg_monitor", "sees what has been applied, and who holds a lock")
_SIGNAL: Final = _member(
    "pg_signal_backend", "ends the worker or walsender of a course that stops or leaves"
)

OWN_ROLES: Final = {
    "portal": _own_roles(
        "roles",
        "makes the roles that its functions run as, and gives these to them",
        _QUERIES["grant_roles"],
        *PORTAL_ROLES,
    ),
    "course": _own_roles(
        "role",
        "makes the role that the replicated tables belong to, and gives them to it",
        _QUERIES["grant_course_role"],
        COURSE_ROLE,
    ),
}
"""Without which nothing is changed."""

PORTAL: Final = (
    _attribute("replication", "makes slots and takes snapshots"),
    OWN_ROLES["portal"],
    _DATABASE,
    _PUBLIC,
    _MONITOR,
    _SIGNAL,
)
MERGING: Final = (
    _parameters(
        "merges, repairs and tries changes as the apply worker does: past the guard, without"
        " ordinary triggers and foreign keys",
        {"session_replication_role": "replica"},
    ),
)
"""What filling a course database by a merge takes."""

COURSE: Final = (
    _member("pg_create_subscription", "makes the subscription", since=16),
    OWN_ROLES["course"],
    _DATABASE,
    _PUBLIC,
    _MONITOR,
    _SIGNAL,
    *MERGING,
    _parameters("keeps the subscription's password out of the server's log", _LOGGING),
)

GRANTS: Final = {"portal": PORTAL, "course": COURSE}


def owners_statement(side: str, role: str) -> str:
    """Return what makes a role a member of the roles that own a database's tables.

    It needs nothing but the names of the tables, so it is the same for every database.
    """
    statement = _QUERIES["grant_owners"].format(
        role=sql.Literal(role), tables=sql.Literal(_tables(side))
    )
    return statement.as_string(None)


def missing(connection: Connection, side: str, where: str) -> Iterator[Finding]:
    """Return what our role lacks of this list, or that it has more than it needs.

    :param side: ``portal`` or ``course``.
    :param where: the place as remedies call it.
    """
    role, superuser, others_may = fetch_row(connection, _QUERIES["our_role"])
    subject = f"role '{role}', which pysync uses,"
    if superuser and side == "course" and not others_may:
        return
    if superuser:
        yield Finding(
            subject,
            f"is a superuser {where}: none is needed",
            f"connect as another, with what 'pysync grants {side} ROLE' prints",
            must=False,
        )
        return
    database = str(connection.info.dbname)
    for grant, granted in _asked(connection, GRANTS[side]):
        if granted is None:
            yield Finding(
                subject,
                f"isn't a superuser {where}: this version lets nobody else make a subscription",
                "connect as a superuser for that, or upgrade the server",
                must=False,
            )
        elif not granted:
            cause = f"lacks {grant.right} {where}: it {grant.why}"
            yield Finding(subject, cause, run(grant.to(role, database), where), must=False)
    tables = {"tables": _tables(side)}
    for owner, table in connection.execute(_QUERIES["foreign_owners"], tables).fetchall():
        yield Finding(
            subject,
            f"isn't a member of role '{owner}', which owns {table} {where}",
            run(f"grant {quoted_name(owner)} to {quoted_name(role)}", where),
            must=False,
        )


def require_own_roles(portal: Connection | None = None, database: Connection | None = None) -> None:
    """Refuse to begin what our role couldn't finish where it may not act as pysync's own roles.

    :param portal: if it is concerned.
    :param database: a course's, if it is concerned; before it is migrated its role may be missing.
    :raises UnsuitableServerError: if it may not.
    """
    if portal:
        _require(portal, (OWN_ROLES["portal"],), ON_PORTAL)
    there = "select true from pg_catalog.pg_roles where rolname = %s"
    if database and fetch_value(database, there, COURSE_ROLE):
        _require(database, (OWN_ROLES["course"],), IN_COURSE)


def require_merging(database: Connection, subject: str) -> None:
    """Refuse to begin a merge of a course, as messages call it, that our role couldn't finish."""
    _require(database, MERGING, IN_COURSE, f"{subject} can't be merged: ")


def _require(
    connection: Connection, grants: tuple[Grant, ...], where: str, refused: str = ""
) -> None:
    for grant, granted in _asked(connection, grants):
        if not granted:
            role, name = str(connection.info.user), str(connection.info.dbname)
            cause = f"role '{role}' lacks {grant.right} {where}: it {grant.why}"
            raise UnsuitableServerError(refused + cause, run(grant.to(role, name), where))


def _asked(
    connection: Connection, grants: tuple[Grant, ...]
) -> Iterator[tuple[Grant, bool | None]]:
    """Return which of these our role has, asked at once; ``None`` where the server has no such."""
    asked = sql.SQL(", ").join(sql.SQL(each.granted) for each in grants)
    found = fetch_row(connection, sql.SQL("select {}").format(asked))
    for grant, granted in zip(grants, found, strict=True):
        yield grant, granted and _may_set(connection, grant.settings)


def _may_set(connection: Connection, settings: Mapping[str, str]) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            for name, value in settings.items():
                statement = sql.SQL("set local {} = {}")
                connection.execute(statement.format(sql.Identifier(name), sql.Literal(value)))
    except errors.InsufficientPrivilege:
        return False
    return True


def _tables(side: str) -> list[str]:
    """Return the applications' tables, wherever they may be."""
    if side == "course":
        return [
            f"{schema}.{table}" for schema in ("course", "public") for table in REPLICATED_TABLES
        ]
    tables = PORTAL_LINEAGE.metadata.sorted_tables
    return sorted(f"public.{table.name}" for table in tables if table.schema == "public")
