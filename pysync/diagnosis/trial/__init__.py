"""Find out why a course's apply worker fails, without its server's log.

The pending changes are read from the slot without taking them from it (or, before the first copy is
complete, the rows that it copies from their tables), and tried in the course database in a
transaction that is rolled back. Slots are read in version 1 of pgoutput's protocol; what would
break that stands in :mod:`pysync.diagnosis.trial.pgoutput`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Final

import psycopg
from psycopg import errors, sql

from pysync.db.connections import Connection
from pysync.db.holders import Watch
from pysync.db.queries import load
from pysync.db.restricted import lock_owner, restricted
from pysync.diagnosis.trial.copying import rows_to_copy, unreadable
from pysync.diagnosis.trial.explain import explain
from pysync.diagnosis.trial.pgoutput import Change, changes
from pysync.diagnosis.trial.reach import connect_until, reach
from pysync.diagnosis.trial.worker import RefusedError, Worker
from pysync.findings import IN_COURSE, Finding
from pysync.replication import processes
from pysync.replication.databases import connect_course
from pysync.replication.registry import Course
from pysync.texts import word

__all__ = ["Tried", "attempt", "attempt_copy", "reach"]

_BATCH: Final = 200
_CHANGES: Final = 1000
_LOCK_TIMEOUT: Final = "300ms"
_LOOK_SECONDS: Final = 0.05
_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class Tried:
    """What came of a trial.

    :param finding: why a change fails; ``None`` if none of those tried does.
    :param changes: how many were tried.
    :param note: why it is incomplete, if it is.
    """

    finding: Finding | None
    changes: int
    note: str | None = None


def attempt(portal_conninfo: str, course: Course, applied_at: int | None, deadline: float) -> Tried:
    """Try a course's pending changes; nothing is changed, in the course or in its slot.

    :param applied_at: the position up to which the course has applied changes, if known.
    :param deadline: when to stop, on the monotonic clock.
    """

    def pending(portal: Connection) -> Iterator[Change]:
        for change in changes(_peek(portal, course.replication_name, deadline)):
            # What was committed before that has been applied, though not yet confirmed.
            if applied_at is None or change.commit_at >= applied_at:
                yield change

    return _try(portal_conninfo, course, pending, deadline)


def attempt_copy(
    portal_conninfo: str, course: Course, tables: Sequence[str], deadline: float
) -> Tried:
    """Try the first copy of a course's tables; nothing is changed.

    :param tables: those that aren't copied yet, without their schema.
    :param deadline: when to stop, on the monotonic clock.
    """

    def rows(portal: Connection) -> Iterator[Change]:
        return rows_to_copy(portal, course, tables)

    with closing(connect_until(portal_conninfo, deadline)) as portal:
        if finding := unreadable(portal, course, tables):
            return Tried(finding, 0)
    return _try(portal_conninfo, course, rows, deadline, copying=True)


def _try(
    portal_conninfo: str,
    course: Course,
    source: Callable[[Connection], Iterator[Change]],
    deadline: float,
    *,
    copying: bool = False,
) -> Tried:
    """Try changes one after the other, many to a round trip as long as none fails."""
    tried = 0
    try:
        with (
            closing(connect_until(portal_conninfo, deadline)) as portal,
            closing(connect_until(course.conninfo, deadline, connect_course)) as database,
            database.transaction(force_rollback=True),
        ):
            # Triggers fire, and foreign keys are checked, as for the apply worker.
            database.execute("set local session_replication_role = replica")
            database.execute(
                "select pg_catalog.set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,)
            )
            changes_left = source(portal)
            trial = _Trial(database, Worker.of(database, course))
            while batch := [*islice(changes_left, _BATCH)]:
                if failure := trial.first_failure(batch):
                    tried += batch.index(failure[0])
                    return _failed(trial, course, *failure, tried, copying=copying)
                tried += len(batch)
                if time.monotonic() > deadline:
                    return Tried(None, tried, "there was no time to try more of them")
    except RefusedError as refused:
        return Tried(refused.finding, tried)
    except errors.ObjectInUse:
        return Tried(None, tried, "its slot was in use all the time, so they couldn't be tried")
    except errors.QueryCanceled:
        return Tried(None, tried, "there was no time to read them from the portal")
    except errors.UndefinedObject:
        # Up to 17 decoding stops there for ever, whatever is made anew.
        return Tried(_unpublished(course), tried)
    except errors.InsufficientPrivilege:
        return Tried(None, tried, "our role lacks a right that trying them takes")
    return Tried(None, tried)


def _failed(
    trial: "_Trial",
    course: Course,
    change: Change,
    error: psycopg.Error,
    tried: int,
    *,
    copying: bool,
) -> Tried:
    if copying and isinstance(error, errors.LockNotAvailable):
        return Tried(None, tried, "they are being copied at the moment")
    if isinstance(error, errors.LockNotAvailable):
        return _held(trial, course, change, tried)
    if isinstance(error, errors.QueryCanceled):  # by us: workers have no such limit
        return Tried(None, tried, f"the {change.kind} takes longer than there was time to try")
    role = trial.roles.get((change.schema, change.table))
    finding = explain(trial.database, course, change, error, role, copying=copying)
    return Tried(finding, tried)


def _held(trial: "_Trial", course: Course, change: Change, tried: int) -> Tried:
    """Try a change once more, and see whose lock it waits for."""
    with closing(Watch(trial.database, IN_COURSE, _LOOK_SECONDS)) as watch:
        trial.first_failure([change])
    workers = [each.pid for each in processes.workers(trial.database, course)]
    if watch.found is None or watch.found.pid in workers:
        return Tried(None, tried, "they are being applied at the moment")
    cause = f"waits for a lock that {watch.found} holds {IN_COURSE}"
    end = watch.found.end(IN_COURSE, trial.database.info.dbname)
    return Tried(Finding(f"the pending {change.kind}", cause, end), tried)


def _unpublished(course: Course) -> Finding:
    return Finding(
        f"publication '{course.replication_name}'",
        "wasn't there when changes were made that the course hasn't got: they can't be sent",
        f"run 'pysync resync {word(course.course_id)}'",
    )


@dataclass
class _Trial:
    """Changes that are tried in a transaction, each with the rights that a worker has.

    What others hung on the table finds no more of them here, and what the worker lacks is missing.
    """

    database: Connection
    worker: Worker
    roles: dict[tuple[str, str], str] = field(default_factory=dict)

    def first_failure(self, batch: Sequence[Change]) -> tuple[Change, psycopg.Error] | None:
        """Try changes; of those after the first that fails, none."""
        for number, change in enumerate(batch):
            if (key := (change.schema, change.table)) not in self.roles:
                try:
                    with self.database.transaction():
                        owner = lock_owner(self.database, *key)
                        self.roles[key] = self.worker.role(self.database, owner)
                except psycopg.Error as error:
                    return self._first_failure(batch[:number]) or (change, error)
        return self._first_failure(batch)

    def _first_failure(self, batch: Sequence[Change]) -> tuple[Change, psycopg.Error] | None:
        try:
            with self.database.transaction():
                for role, group in groupby(batch, key=self._role):
                    with restricted(self.database, role) as table:
                        table.execute_all(_statement(change) for change in group)
        except psycopg.Error as error:
            if len(batch) == 1:
                return batch[0], error
            half = len(batch) // 2
            return self._first_failure(batch[:half]) or self._first_failure(batch[half:])
        return None

    def _role(self, change: Change) -> str:
        return self.roles[change.schema, change.table]


def _peek(portal: Connection, name: str, deadline: float) -> Iterator[bytes]:
    """Return pending messages in batches; a worker that fails has the slot every now and then."""
    # The limit is looked at between transactions only.
    query = _QUERIES["peek"].format(slot=sql.Literal(name), limit=_CHANGES)
    while True:
        try:
            with portal.transaction():
                portal.execute(query)
                fetch = sql.SQL("fetch {} from pending").format(_BATCH)
                while rows := portal.execute(fetch).fetchall():
                    yield from (data for (data,) in rows)
        except errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _statement(change: Change) -> tuple[sql.Composed, list[str | None]]:
    def equal(names: Iterable[str]) -> list[sql.Composed]:
        return [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in names]

    table = sql.Identifier(change.schema, change.table)
    matches = sql.SQL(" and ").join(equal(change.key))
    if change.kind == "insert":
        return sql.SQL("insert into {} ({}) overriding system value values ({})").format(
            table,
            sql.SQL(", ").join(map(sql.Identifier, change.values)),
            sql.SQL(", ").join(sql.Placeholder() * len(change.values)),
        ), [*change.values.values()]
    if change.kind == "delete":
        return sql.SQL("delete from {} where {}").format(table, matches), [*change.key.values()]
    update = sql.SQL("update {} set {} where {}")
    statement = update.format(table, sql.SQL(", ").join(equal(change.values)), matches)
    return statement, [*change.values.values(), *change.key.values()]
