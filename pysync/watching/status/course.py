"""What a course database says of its replication."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from psycopg.rows import class_row

from pysync.db.connections import Connection, fetch_value
from pysync.replication.registry import Course
from pysync.replication.subscriptions import READY, UNCOPIED, count_errors


@dataclass(frozen=True)
class Facts:
    """A course database at one moment; positions are bytes of the portal's WAL.

    :param subscription_oid: ``None`` if there is no subscription of the course's name.
    :param tables: the state of each subscribed table, as ``pg_subscription_rel`` has it.
    :param statistics: the row of ``pg_stat_subscription_stats``, whatever its columns are.
    :param worker_pid: of the apply worker, if one is there.
    :param received_at: what the worker has received.
    :param applied_at: what is applied, where our role may see it.
    :param copied_rows: rows of each table that is being copied at the moment.
    :param strangers: subscriptions of pysync's name on this server that no course of ours has.
    """

    subscription_oid: int | None
    enabled: bool | None
    slot_name: str | None
    tables: dict[str, str]
    statistics: dict[str, Any]
    worker_pid: int | None
    received_at: int | None
    applied_at: int | None
    copied_rows: dict[str, int]
    owner: str | None
    mark: int | None
    marked_at: datetime | None
    strangers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def apply_errors(self) -> int:
        """Return the errors of the apply worker since the subscription was made."""
        return int(self.statistics.get("apply_error_count") or 0)

    @property
    def sync_errors(self) -> int:
        """Return the errors of first copies since the subscription was made."""
        return count_errors(self.statistics) - self.apply_errors

    @property
    def conflicts(self) -> int | None:
        """Return the conflicts counted, or ``None`` before version 18."""
        counts = [int(v or 0) for k, v in self.statistics.items() if k.startswith("confl_")]
        return sum(counts) if counts else None

    @property
    def uncopied(self) -> list[str]:
        """Return the tables whose copy isn't complete."""
        return sorted(name for name, state in self.tables.items() if state in UNCOPIED)

    @property
    def tables_ready(self) -> int:
        """Return how many tables are copied."""
        return sum(state == READY for state in self.tables.values())


_FACTS: Final = """
select s.oid::bigint as subscription_oid,
       s.subenabled as enabled,
       s.subslotname::text as slot_name,
       coalesce((select jsonb_object_agg(c.relname, r.srsubstate)
                   from pg_catalog.pg_subscription_rel r
                   join pg_catalog.pg_class c on c.oid = r.srrelid
                  where r.srsubid = s.oid), '{}') as tables,
       coalesce((select to_jsonb(st) from pg_catalog.pg_stat_subscription_stats st
                  where st.subid = s.oid), '{}') as statistics,
       worker.pid as worker_pid,
       (worker.received_lsn - '0/0')::bigint as received_at,
       case when exists (select from pg_catalog.pg_replication_origin o
                          where o.roname = 'pg_' || s.oid)
             and pg_catalog.has_function_privilege(
                     'pg_catalog.pg_replication_origin_progress(text, boolean)', 'execute')
            then (pg_catalog.pg_replication_origin_progress('pg_' || s.oid, false) - '0/0')::bigint
       end as applied_at,
       coalesce((select jsonb_object_agg(c.relname, p.tuples_processed)
                   from pg_catalog.pg_stat_progress_copy p
                   join pg_catalog.pg_class c on c.oid = p.relid
                   join pg_catalog.pg_subscription_rel r
                     on r.srrelid = c.oid and r.srsubid = s.oid
                  where p.datname = pg_catalog.current_database()), '{}') as copied_rows
  from (select) as once
  left join pg_catalog.pg_subscription s
    on s.subname = %(name)s
   and s.subdbid = (select d.oid from pg_catalog.pg_database d
                     where d.datname = pg_catalog.current_database())
  left join lateral (
           select w.pid, w.received_lsn
             from pg_catalog.pg_stat_subscription w
            where w.subid = s.oid and w.relid is null and w.pid is not null
              -- Parallel apply workers have a leader.
              and to_jsonb(w) ->> 'leader_pid' is null
            limit 1
       ) as worker on true
"""

_OURS: Final = """
select (select t.course_id from course.this_course t) as owner,
       b.number as mark, b.marked_at as marked_at
  from (select) as once
  left join course.mark b on b.course_id = %(course_id)s
"""


def read_facts(database: Connection, course: Course) -> Facts:
    """Read what a course database says, in two round trips."""
    names = {"name": course.replication_name, "course_id": course.course_id}
    columns = "null::text as owner, null::bigint as mark, null::timestamptz as marked_at"
    if fetch_value(database, "select pg_catalog.to_regclass('course.mark')") is not None:
        columns = "ours.owner, ours.mark, ours.marked_at"
        query = f"select f.*, {columns} from ({_FACTS}) as f cross join ({_OURS}) as ours"  # noqa: S608
    else:
        query = f"select f.*, {columns} from ({_FACTS}) as f"  # noqa: S608
    with database.cursor(row_factory=class_row(Facts)) as cursor:
        facts = cursor.execute(query.encode(), names).fetchone()
    assert facts is not None  # noqa: S101 - the query has one row
    return facts


def read_mark(database: Connection, course: Course) -> int | None:
    """Return the newest mark that is visible here."""
    mark: int | None = fetch_value(
        database, "select number from course.mark where course_id = %s", course.course_id
    )
    return mark


@dataclass(frozen=True)
class Blocker:
    """A session that an apply worker waits for."""

    pid: int
    who: str
    doing: str


def read_blocker(database: Connection, worker_pid: int) -> Blocker | None:
    """Return whose lock an apply worker waits for, or ``None`` if it doesn't."""
    row = database.execute(
        "select a.pid, coalesce(nullif(a.application_name, ''), a.usename::text, a.backend_type,"
        "   'unknown'),"
        " coalesce(a.state || ' for ' ||"
        "   date_trunc('second', clock_timestamp() - a.xact_start)::text, 'running')"
        " from unnest(pg_catalog.pg_blocking_pids(%s)) as blocking(pid)"
        " join pg_catalog.pg_stat_activity a on a.pid = blocking.pid"
        " order by a.xact_start limit 1",
        (worker_pid,),
    ).fetchone()
    return Blocker(*row) if row else None


def read_strangers(database: Connection, known: list[str]) -> list[tuple[str, str]]:
    """Return name and database of subscriptions of pysync's name that aren't in `known`."""
    return database.execute(
        "select s.subname::text, d.datname::text from pg_catalog.pg_subscription s"
        " join pg_catalog.pg_database d on d.oid = s.subdbid"
        " where s.subname like 'pysync\\_%%' and s.subname <> all (%s) order by 1",
        (known,),
    ).fetchall()
