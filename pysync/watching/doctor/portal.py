"""The portal: settings for this many courses, roles, replica identities, foreign keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from psycopg import sql

from pysync.db.connections import Connection, fetch_value
from pysync.diagnosis.checks import MINIMUM_VERSION, settings
from pysync.diagnosis.drift import portal_findings, publication_findings
from pysync.findings import ON_PORTAL, Finding, run
from pysync.models.replicated import PUBLISHED_TABLES, REPLICATED_TABLES
from pysync.replication.publications import reading_grants
from pysync.replication.registry import Course

Judged = tuple[bool, Finding]
"""Whether it must be mended, and what."""

PLUGIN: Final = "pgoutput"
_SYNC_SLOTS: Final = len(PUBLISHED_TABLES)


def examine_portal(
    portal: Connection, registered: Sequence[Course], wanted: Sequence[Course]
) -> Iterator[Judged]:
    """Examine a portal.

    :param registered: all courses: settings must do for them.
    :param wanted: those whose roles and publications are looked at.
    """
    for finding in portal_findings(portal):
        yield True, finding
    for course_id, findings in publication_findings(portal, wanted).items():
        for finding in findings:
            yield True, Finding(f"course '{course_id}' {finding.object}", *_rest(finding))
    yield from _settings(portal, len(registered))
    yield from _our_role(portal)
    for course in {each.replication_role: each for each in wanted}.values():
        yield from _replication_role(portal, course)
    yield from _replica_identities(portal)
    yield from _foreign_keys(portal)


def _rest(finding: Finding) -> tuple[str, str]:
    return finding.cause, finding.remedy


def _settings(portal: Connection, courses: int) -> Iterator[Judged]:
    found = settings(portal)
    if found.version < MINIMUM_VERSION:
        yield (
            True,
            Finding(
                "portal server",
                f"is PostgreSQL {found.version}: row filters need {MINIMUM_VERSION}",
                "upgrade it",
            ),
        )
    if found.values["wal_level"] != "logical":
        yield (
            True,
            Finding(
                "setting wal_level",
                f"is '{found.values['wal_level']}' on the portal: logical replication needs "
                "'logical'",
                run("alter system set wal_level = 'logical'", ON_PORTAL) + "; then restart it",
            ),
        )
    for name in ("max_replication_slots", "max_wal_senders"):
        needed, roomy = courses, courses + 1 + _SYNC_SLOTS
        if found.number(name) < roomy:
            must = found.number(name) < needed
            yield (
                must,
                Finding(
                    f"setting {name}",
                    f"is {found.number(name)} on the portal: {courses} courses need {needed}, and "
                    f"{roomy} while one more is copied",
                    run(f"alter system set {name} = {roomy}", ON_PORTAL) + "; then restart it",
                ),
            )
    plugins = fetch_value(portal, "select current_setting('output_plugin_libraries', true)")
    if plugins is not None and PLUGIN not in [each.strip(' "') for each in plugins.split(",")]:
        yield (
            True,
            Finding(
                "setting output_plugin_libraries",
                f"is '{plugins}' on the portal: {PLUGIN} isn't allowed, so no course can stream",
                run(
                    "alter system set output_plugin_libraries = "
                    + ", ".join(filter(None, [PLUGIN, plugins])),
                    ON_PORTAL,
                )
                + "; then reload it",
            ),
        )
    if courses and fetch_value(portal, "select current_setting('max_slot_wal_keep_size')") == "-1":
        yield (
            False,
            Finding(
                "setting max_slot_wal_keep_size",
                "is unlimited on the portal: a course that stays away fills its disk",
                run("alter system set max_slot_wal_keep_size = '…GB'", ON_PORTAL)
                + " with what the disk can spare; then reload it, or run 'pysync guard'",
            ),
        )


def _our_role(portal: Connection) -> Iterator[Judged]:
    row = portal.execute(
        "select r.rolname::text, r.rolsuper or r.rolreplication,"
        " r.rolsuper or pg_catalog.pg_has_role(r.oid, 'pg_read_all_stats', 'usage'),"
        " coalesce(pg_catalog.has_function_privilege("
        "   pg_catalog.to_regprocedure('pysync.send_marks(text[])'), 'execute'), true),"
        " coalesce(pg_catalog.has_table_privilege("
        "   pg_catalog.to_regclass('pysync.installed'), 'select'), true)"
        " from pg_catalog.pg_roles r where r.rolname = current_user"
    ).fetchone()
    name, may_replicate, sees_statistics, may_send, may_compare = row or ("", *[True] * 4)
    for holds, what, remedy in (
        (
            may_replicate,
            "can't create slots, nor look into them for the cause of a standstill",
            f'alter role "{name}" replication',
        ),
        (
            sees_statistics,
            "doesn't see what courses have applied, only what they confirmed",
            f'grant pg_read_all_stats to "{name}"',
        ),
        (
            may_send,
            "can't send marks: whether a course has everything is judged by WAL positions",
            f'grant execute on function pysync.send_marks(text[]) to "{name}"',
        ),
        (
            may_compare,
            "can't tell whether functions, triggers and policies are as they were made",
            f'grant select on pysync.installed to "{name}"',
        ),
    ):
        if not holds:
            yield (
                False,
                Finding(f"role '{name}', which pysync uses,", what, run(remedy, ON_PORTAL)),
            )


def _replication_role(portal: Connection, course: Course) -> Iterator[Judged]:
    name = course.replication_role
    subject = f"role '{name}', which courses' servers use,"
    row = portal.execute(
        "select rolcanlogin, rolsuper or rolreplication, rolsuper,"
        " rolvaliduntil < now() from pg_catalog.pg_roles where rolname = %s",
        (name,),
    ).fetchone()
    if row is None:
        create = run(f'create role "{name}" login replication', ON_PORTAL)
        yield True, Finding(subject, "doesn't exist on the portal", create)
        return
    logs_in, replicates, is_super, expired = row
    if not logs_in:
        yield True, Finding(subject, "may not log in", run(f'alter role "{name}" login', ON_PORTAL))
    if not replicates:
        allow = run(f'alter role "{name}" replication', ON_PORTAL)
        yield True, Finding(subject, "may not replicate", allow)
    if expired:
        extend = run(f"alter role \"{name}\" valid until 'infinity'", ON_PORTAL)
        yield True, Finding(subject, "has a password that is no longer valid", extend)
    if is_super:
        return
    lacking = portal.execute(
        "select t.name from unnest(%s::text[]) as t(name)"
        " where not pg_catalog.has_table_privilege(%s, 'course.' || t.name, 'select')",
        (list(PUBLISHED_TABLES), name),
    ).fetchall()
    may_use = fetch_value(
        portal,
        "select pg_catalog.has_schema_privilege(%s, 'course', 'usage')"
        " and pg_catalog.has_schema_privilege(%s, 'pysync', 'usage')"
        " and pg_catalog.has_function_privilege(%s, 'pysync.readable_courses(name)', 'execute')",
        *[name] * 3,
    )
    if lacking or not may_use:
        grants = sql.SQL("; ").join(reading_grants(name)).as_string(portal)
        cause = "can't read what a first copy reads"
        yield True, Finding(subject, cause, run(grants, ON_PORTAL))


def _replica_identities(portal: Connection) -> Iterator[Judged]:
    rows = portal.execute(
        "select c.relname::text from pg_catalog.pg_class c"
        " join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = 'course' and c.relname = any (%s)"
        " and not (c.relreplident = 'd' and exists"
        "   (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary))"
        " order by 1",
        (list(PUBLISHED_TABLES),),
    ).fetchall()
    for (table,) in rows:
        yield (
            True,
            Finding(
                f"replica identity of course.{table}",
                "isn't its primary key on the portal: updates and deletes fail, or tell more than "
                "they should",
                run(f"alter table course.{table} replica identity default", ON_PORTAL),
            ),
        )


UNINDEXED = """
select k.conrelid::pg_catalog.regclass::text, k.conname::text,
       k.confrelid::pg_catalog.regclass::text,
       (select pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by u.position)
          from unnest(k.conkey) with ordinality as u(attnum, position)
          join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum)
  from pg_catalog.pg_constraint k
 where k.contype = 'f'
   and k.confrelid = any (
           select pg_catalog.to_regclass(%(schema)s || '.' || t.name)
             from unnest(%(tables)s::text[]) as t(name))
   and not exists (
           select from pg_catalog.pg_index i
            where i.indrelid = k.conrelid and i.indisvalid and i.indpred is null
              and (i.indkey::int2[])[0:pg_catalog.cardinality(k.conkey) - 1] @> k.conkey)
 order by 1, 2
"""


def unindexed(connection: Connection, schema: str, where: str) -> Iterator[Finding]:
    """Return foreign keys on replicated tables without an index: deletions read whole tables."""
    parameters = {"schema": schema, "tables": list(REPLICATED_TABLES)}
    for table, name, target, columns in connection.execute(UNINDEXED, parameters).fetchall():
        yield Finding(
            f"foreign key '{name}' of {table}",
            f"has no index on ({columns}) {where}: each deletion in {target} reads all of {table}",
            run(f"create index concurrently on {table} ({columns})", where),
        )


def _foreign_keys(portal: Connection) -> Iterator[Judged]:
    for finding in unindexed(portal, "public", ON_PORTAL):
        yield False, finding
