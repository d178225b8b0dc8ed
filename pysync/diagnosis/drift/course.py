"""What isn't as it should be in a course database: tables, guard, search_path, what hides them."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Final

from psycopg import sql

from pysync.adoption import Side, inspect, plan
from pysync.db.connections import Connection
from pysync.diagnosis.drift import trees
from pysync.diagnosis.drift.objects import object_findings
from pysync.diagnosis.drift.revisions import revision_findings
from pysync.errors import AdoptionError
from pysync.findings import IN_COURSE, Finding, run
from pysync.migrate.lineage import COURSE
from pysync.models.course import CourseDatabaseBase
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication.registry import Course

_MEMBERSHIP_CHECK: Final = "pysync_this_course"

# Everything that decides whether rows from the portal fit: hundreds of courses are alike.
_SIGNATURE: Final = """
select pg_catalog.md5(string_agg(line, e'\\n' order by line)) from (
select c.relname || ' ' || a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod)
       || a.attnotnull || a.attidentity::text
       || coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
  from pg_catalog.pg_class c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where c.relnamespace = 'course'::pg_catalog.regnamespace and c.relname = any (%(tables)s)
union all
select c.relname || ' ' || k.conname || ' ' || pg_catalog.pg_get_constraintdef(k.oid)
  from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid
 where c.relnamespace = 'course'::pg_catalog.regnamespace and c.relname = any (%(tables)s)
   and k.conname <> %(check)s
union all
select c.relname || ' ' || i.indisvalid || pg_catalog.pg_get_indexdef(i.indexrelid)
  from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indrelid
 where c.relnamespace = 'course'::pg_catalog.regnamespace and c.relname = any (%(tables)s)
) as lines (line)
"""
_known: dict[str, list[Finding]] = {}

_SURROUNDINGS: Final = """
select array(select c.relname::text
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where n.nspname = 'public' and c.relname = any (%(tables)s) order by 1),
       (select pg_catalog.substr(setting, 13)
          from pg_catalog.pg_db_role_setting s
          join pg_catalog.pg_database d on d.oid = s.setdatabase
          cross join unnest(s.setconfig) as setting
         where d.datname = pg_catalog.current_database() and s.setrole = 0
           and setting like 'search\\_path=%%'),
       array(select array[t.name, (select pg_catalog.pg_get_expr(k.conbin, k.conrelid)
                                     from pg_catalog.pg_constraint k
                                    where k.conrelid = pg_catalog.to_regclass('course.' || t.name)
                                      and k.conname = %(check)s and k.convalidated)]
               from unnest(%(guarded)s::text[]) as t(name))
"""


def course_findings(database: Connection, course: Course) -> list[Finding]:
    """Return what isn't as it should be in a course's database, worst first.

    :raises psycopg.Error: if the database can't be asked.
    """
    command = f"pysync migrate course {shlex.quote(course.course_id)}"
    if findings := revision_findings(database, COURSE, "course database", command):
        return findings
    shadowing, search_path, checks = database.execute(
        _SURROUNDINGS,
        {
            "tables": list(REPLICATED_TABLES),
            "guarded": [*REPLICATED_TABLES, "mark"],
            "check": _MEMBERSHIP_CHECK,
        },
    ).fetchone() or ([], None, [])
    return [
        *(_hidden(name) for name in shadowing),
        *_search_path_findings(database, search_path),
        *_table_findings(database, course),
        *_check_findings(database, course, checks),
        *object_findings(database, COURSE.name, IN_COURSE),
    ]


def _hidden(name: str) -> Finding:
    return Finding(
        f"critical: public.{name}",
        f"hides the replicated table course.{name} from applications",
        f"move or drop public.{name} {IN_COURSE}",
    )


def _search_path_findings(database: Connection, search_path: str | None) -> list[Finding]:
    entries = [entry.strip().strip('"') for entry in (search_path or "").split(",")]
    if "course" in entries:
        return []
    statement = sql.SQL("alter database {} set search_path = {}, course").format(
        sql.Identifier(database.info.dbname),
        sql.SQL(search_path or '"$user", public'),
    )
    return [
        Finding(
            f"search_path of database '{database.info.dbname}'",
            "doesn't name schema course: applications don't find the replicated tables",
            run(statement.as_string(database), IN_COURSE),
        )
    ]


def _table_findings(database: Connection, course: Course) -> list[Finding]:
    (signature,) = database.execute(
        _SIGNATURE, {"tables": list(REPLICATED_TABLES), "check": _MEMBERSHIP_CHECK}
    ).fetchone() or ("",)
    if signature not in _known:
        _known[signature] = [
            finding for name in REPLICATED_TABLES for finding in _inspect(database, course, name)
        ]
    return _known[signature]


def _inspect(database: Connection, course: Course, name: str) -> list[Finding]:
    subject = f"table course.{name}"
    found = inspect(database, "course", name)
    if found is None:
        return [Finding(subject, f"is missing {IN_COURSE}", "restore it, then 'pysync resync'")]
    found = replace(
        found,
        has_rows=False,
        restrictions=tuple(r for r in found.restrictions if r.name != _MEMBERSHIP_CHECK),
    )
    table = CourseDatabaseBase.metadata.tables[f"course.{name}"]
    try:
        missing = plan(found, table, Side.COURSE).complete
    except AdoptionError as error:
        _, _, cause = error.message.partition(f"'{found.schema}.{found.name}' ")
        return [
            Finding(
                subject,
                cause.replace("can't be adopted: ", ""),
                error.remedy or f"change it {IN_COURSE}",
            )
        ]
    lacking = sorted({c.name for c in table.columns} - set(found.columns))
    if lacking:
        cause = (
            f"lacks column {', '.join(lacking)}: replication stops at the next change of this table"
        )
        repair = f"pysync repair {shlex.quote(course.course_id)}"
        remedy = f"{run('; '.join(missing), IN_COURSE)}; then '{repair}' for its values"
        return [Finding(subject, cause, remedy)]
    return [
        Finding(subject, "isn't as pysync made it", run(statement, IN_COURSE))
        for statement in missing
    ]


def _check_findings(
    database: Connection, course: Course, checks: list[tuple[str, str | None]]
) -> list[Finding]:
    literal = sql.Literal(str(course.course_id)).as_string(database)
    expected = trees.expression(f"course_id = {literal}")
    return [
        Finding(
            f"constraint '{_MEMBERSHIP_CHECK}' on course.{name}",
            f"is {'missing' if found is None else 'altered'} {IN_COURSE}: "
            "rows of other courses would be let in",
            f'run "alter table course.{name} drop constraint if exists {_MEMBERSHIP_CHECK}, '
            f'add constraint {_MEMBERSHIP_CHECK} check (course_id = {literal})" {IN_COURSE}',
        )
        for name, found in checks
        if found is None or trees.expression(found) != expected
    ]
