"""A course database as pysync keeps it: closed to local writes, or given back."""

from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import Final

from psycopg import sql

from pysync.db.connections import Connection, fetch_value, parse
from pysync.db.errors import runs_code, translated
from pysync.db.holders import waiting
from pysync.db.queries import load
from pysync.db.restricted import as_owner_of, lock_owner, restricted
from pysync.db.sql_files import frozen, statements
from pysync.diagnosis import grants
from pysync.errors import (
    DatabaseUnreachableError,
    ForeignDatabaseError,
    UnsuitableDatabaseError,
)
from pysync.findings import IN_COURSE
from pysync.lifecycle.work import Work
from pysync.models.replicated import (
    PUBLISHED,
    PUBLISHED_TABLES,
    REPLICATED,
    REPLICATED_TABLES,
    ReplicatedTable,
    replicated,
)
from pysync.replication import identities, subscriptions
from pysync.replication.databases import open_course
from pysync.replication.registry import Course
from pysync.texts import quoted

_QUERIES: Final = load(__file__)
_GUARD_TRIGGERS: Final = (
    "pysync_refuse_rows",
    "pysync_refuse_columns",
    "pysync_refuse_truncate",
)


def make_vacant(database: Connection, course: Course) -> None:
    """Clear what an interrupted first copy left, and put the write guard (back) in place."""
    names = [f"course.{name}" for name in (*PUBLISHED_TABLES, "missing_mark")]
    guards = {"guarded": names[:-1], "triggers": list(_GUARD_TRIGGERS)}
    if fetch_value(database, _QUERIES["vacant"], tables=names, **guards):
        return
    with waiting(database, f"course '{course.course_id}'", IN_COURSE), database.transaction():
        _set_guard(database, enabled=False)
        owners = [(lock_owner(database, "course", t.name), t) for t in reversed(PUBLISHED)]
        for role, tables in groupby(owners, itemgetter(0)):
            with restricted(database, role) as owner:
                delete = sql.SQL("delete from {}")
                owner.execute_all((delete.format(t.identifier), None) for _, t in tables)
        database.execute("delete from course.missing_mark")
        _set_guard(database, enabled=True)


def _set_guard(database: Connection, *, enabled: bool) -> None:
    verb = sql.SQL("enable" if enabled else "disable")
    alter = sql.SQL("alter table {} {} trigger {}")
    for table in PUBLISHED:
        for trigger in _GUARD_TRIGGERS:
            database.execute(alter.format(table.identifier, verb, sql.Identifier(trigger)))


def enter_marks(database: Connection, marks: str) -> None:
    """Enter marks, which JSON has, behind the write guard, in the caller's transaction."""
    table = replicated("mark")
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    alter = sql.SQL("alter table {} {} trigger {}")
    guard = sql.Identifier(_GUARD_TRIGGERS[0])
    database.execute(alter.format(table.identifier, sql.SQL("disable"), guard))
    database.execute(_QUERIES["enter_marks"].format(columns=columns), {"marks": marks})
    database.execute(alter.format(table.identifier, sql.SQL("enable"), guard))


def close(database: Connection, course: Course) -> None:
    """Put the write guard (back) in place; rows stay."""
    with waiting(database, f"course '{course.course_id}'", IN_COURSE), database.transaction():
        _set_guard(database, enabled=True)


def take_over(database: Connection, course: Course, *, keep_owner: bool) -> None:
    """Have the replicated tables belong to pysync's own role.

    :param keep_owner: but those that were there before pysync.
    """
    with waiting(database, f"course '{course.course_id}'", IN_COURSE), database.transaction():
        database.execute("update course.adoption set keeps_owner = %s", (keep_owner,))
        if _owners(database):
            database.execute("call course.take_over()")


def to_take_over(work: Work) -> dict[str, str]:
    """Return the tables that adding a course makes pysync's, and the roles that own them now."""
    return {} if work.keep_owner else _owners(work.database)


def _owners(database: Connection) -> dict[str, str]:
    tables = [f"{schema}.{name}" for schema in ("public", "course") for name in REPLICATED_TABLES]
    return dict(database.execute(_QUERIES["owners"], {"tables": tables}).fetchall())


def require_no_code(work: Work) -> None:
    """Refuse a database whose tables can't become pysync's, before anything is changed.

    That is asked by the function that the migration will install.

    :raises UnsuitableDatabaseError: if code of others is on them.
    """
    tables = list(to_take_over(work))
    if not tables:
        return
    (function, *_) = statements(frozen("course")["code_of_others.sql"])
    with translated(work.subject), work.database.transaction(force_rollback=True):
        temporary = function.replace("function course.", "function pg_temp.")
        work.database.execute(temporary.encode())
        found = work.database.execute(_QUERIES["code_of_others"], {"tables": tables}).fetchall()
    if found:
        codes = (f"table {name} would run code of others: {quoted(code)}" for name, code in found)
        raise runs_code(work.subject, "; ".join(codes))


def keeps_owner(database: Connection) -> bool:
    """Return whether a course database has tables that a site's role goes on owning."""
    query = "select true from course.adoption where keeps_owner limit 1"
    return fetch_value(database, query) is not None


def adjust(database: Connection, course: Course) -> None:
    """Make a restored dump the course's database as the original was.

    Its write guard may be off, and a dump doesn't hold what ``alter database`` said, nor roles.
    """
    close(database, course)
    for name in ("roles.sql", "search_path.sql"):
        for statement in statements(frozen("course")[name]):
            database.execute(statement.encode())
    with waiting(database, f"course '{course.course_id}'", IN_COURSE):
        database.execute("call course.take_over()")


def release(
    publisher: Connection, course: Course, conninfo: str, *, force: bool, dry_run: bool = False
) -> bool:
    """End a course database's subscription and give it back, writable.

    :param publisher: what it streams from.
    :param force: go on without the database if it can't be reached or is another portal's.
    :param dry_run: only look whether it is the course's.
    :returns: whether it was reached.
    :raises DatabaseUnreachableError: if it can't be reached and `force` isn't given.
    :raises UnsuitableDatabaseError: if the database is another course's.
    :raises ForeignDatabaseError: if it is another portal's, or a copy, and `force` isn't given.
    """
    parse(conninfo)
    try:
        database = _reach(publisher, course, conninfo)
    except ForeignDatabaseError as error:
        if force:
            return False
        raise ForeignDatabaseError(
            error.message,
            f"{error.remedy}; --force has the portal forget the course, and leaves the database",
        ) from None
    except DatabaseUnreachableError as error:
        if force:
            return False
        raise DatabaseUnreachableError(
            error.message, "bring it back, or run the command again with --force if it is gone"
        ) from None
    with closing(database):
        owner = identities.owner_of(database)
        if owner is not None:
            if owner != course.course_id:
                raise UnsuitableDatabaseError(
                    f"database '{database.info.dbname}' belongs to course '{owner}'",
                    f"give the connection string of course '{course.course_id}'",
                )
            grants.require_own_roles(database=database)
            if not dry_run:
                _open(database, course)
        if not dry_run:
            subscriptions.drop(database, course)
        return True


def _reach(publisher: Connection, course: Course, conninfo: str) -> Connection:
    """Connect to a course's database; to none that is nobody's and stands elsewhere.

    :raises ForeignDatabaseError: if it is such a one.
    """
    database = open_course(publisher, course, conninfo)
    elsewhere = None not in course.place and identities.place(database) != course.place
    if elsewhere and identities.owner_of(database) is None:
        name = database.info.dbname
        database.close()
        raise ForeignDatabaseError(
            f"database '{name}' isn't the one that course '{course.course_id}' has",
            "say by --conninfo how that is reached",
        )
    return database


def _open(database: Connection, course: Course) -> None:
    """Make the replicated tables writable; they are locked first, or nothing is changed."""
    # Applications know no such column of auth_user.
    alter = sql.SQL("alter table {} alter column course_id set default {}")
    course_id = sql.Literal(str(course.course_id))
    with waiting(database, f"course '{course.course_id}'", IN_COURSE), database.transaction():
        _set_guard(database, enabled=False)
        identities.let_go(database)
        for table in REPLICATED:
            _continue_identity(database, table)
            database.execute(alter.format(table.identifier, course_id))
        database.execute("call course.give_back()")


def _continue_identity(database: Connection, table: ReplicatedTable) -> None:
    """Let local inserts go on after the ids that came from the portal."""
    find = "select pg_catalog.pg_get_serial_sequence(%s, 'id')"
    if sequence := fetch_value(database, find, f"course.{table.name}"):
        with as_owner_of(database, "course", table.name) as owner:
            query = sql.SQL("select max(id) from {}").format(table.identifier)
            largest = owner.value(query, "bigint")
        follow = "select pg_catalog.setval(%s, %s, %s)"
        database.execute(follow, (sequence, max(largest or 1, 1), largest is not None))
