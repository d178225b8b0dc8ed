"""What a database holds besides rows, in a form that can be compared."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg

from pysync.types import COURSE_ROLE, PORTAL_ROLES

ROLES = (*PORTAL_ROLES, COURSE_ROLE)

# Names instead of oids everywhere: two databases with the same objects give the same rows. Default
# privileges count the same whether they are spelled out or not.
_QUERIES: dict[str, LiteralString] = {
    "schemas": """
        select nspname, nspowner::regrole::text,
               (select array_agg(entry::text order by entry::text)
                  from unnest(coalesce(nspacl, acldefault('n', nspowner))) as entry),
               obj_description(oid, 'pg_namespace')
          from pg_namespace
         where nspname !~ '^pg_(toast|temp)'""",
    "relations": """
        select relnamespace::regnamespace::text, relname, relkind::text, relowner::regrole::text,
               (select array_agg(entry::text order by entry::text)
                  from unnest(coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))) as entry),
               reloptions, relpersistence::text, relreplident::text, relrowsecurity,
               relforcerowsecurity, obj_description(oid, 'pg_class')
          from pg_class
         where {ours}""",
    "columns": """
        select relnamespace::regnamespace::text, relname, attname,
               format_type(atttypid, atttypmod), attnotnull, attidentity::text, attgenerated::text,
               attacl::text, pg_get_expr(adbin, adrelid), col_description(pg_class.oid, attnum),
               attcollation::regcollation::text, attstattarget
          from pg_class
          join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
          left join pg_attrdef on adrelid = attrelid and adnum = attnum
         where relkind <> 'i' and {ours}""",
    "constraints": """
        select relnamespace::regnamespace::text, relname, conname, contype::text, condeferrable,
               condeferred, convalidated, pg_get_constraintdef(pg_constraint.oid),
               obj_description(pg_constraint.oid, 'pg_constraint')
          from pg_constraint
          join pg_class on pg_class.oid = conrelid
         where {ours}""",
    "indexes": """
        select relnamespace::regnamespace::text, relname, pg_get_indexdef(indexrelid), indisvalid,
               indisprimary,
               (select array[relnamespace::regnamespace::text, relname::text]
                  from pg_class as indexed where indexed.oid = indrelid)
          from pg_index
          join pg_class on pg_class.oid = indexrelid
         where {ours}""",
    "sequences": """
        select relnamespace::regnamespace::text, relname, format_type(seqtypid, null), seqstart,
               seqincrement, seqmax, seqcycle
          from pg_sequence
          join pg_class on pg_class.oid = seqrelid
         where {ours}""",
    "functions": """
        select pronamespace::regnamespace::text, proname,
               pg_get_function_identity_arguments(oid), pg_get_function_result(oid), prokind::text,
               prosrc, pg_get_function_sqlbody(oid), proowner::regrole::text,
               (select array_agg(entry::text order by entry::text)
                  from unnest(coalesce(proacl, acldefault('f', proowner))) as entry),
               proconfig, prosecdef, provolatile::text, prolang,
               pg_get_function_arguments(oid), obj_description(oid, 'pg_proc')
          from pg_proc
         where pronamespace not in ('pg_catalog'::regnamespace,
                                    'information_schema'::regnamespace)""",
    "triggers": """
        select relnamespace::regnamespace::text, relname, pg_get_triggerdef(pg_trigger.oid, true),
               tgenabled::text, obj_description(pg_trigger.oid, 'pg_trigger')
          from pg_trigger
          join pg_class on pg_class.oid = tgrelid
         where not tgisinternal and {ours}""",
    "policies": """
        select schemaname, tablename, policyname, permissive, roles::text, cmd, qual, with_check
          from pg_policies""",
    "default privileges": """
        select defaclrole::regrole::text, defaclnamespace::regnamespace::text, defaclobjtype::text,
               defaclacl::text
          from pg_default_acl""",
    "types": """
        select typnamespace::regnamespace::text, typname, typtype::text
          from pg_type
         where typtype not in ('c', 'b')
           and typnamespace not in ('pg_catalog'::regnamespace,
                                    'information_schema'::regnamespace)""",
    "others": """
        select 'publication', pubname::text from pg_publication
         union all
        select 'subscription', subname from pg_subscription
          join pg_database on pg_database.oid = subdbid and datname = current_database()
         union all
        select 'extension', extname from pg_extension
         union all
        select 'event trigger', evtname from pg_event_trigger
         union all
        select 'slot', slot_name from pg_replication_slots where database = current_database()""",
    "database settings": """
        select setrole::regrole::text, setconfig
          from pg_db_role_setting
          join pg_database on pg_database.oid = setdatabase
         where datname = current_database()""",
    "uses of roles": f"""
        select distinct refobjid::regrole::text, deptype::text, classid::regclass::text
          from pg_shdepend
          join pg_database on pg_database.oid = dbid and datname = current_database()
         where refclassid = 'pg_authid'::regclass
           and refobjid::regrole::text in {ROLES}""",
    "roles": "select rolname, rolcanlogin, rolsuper, rolreplication from pg_roles",
}
_OURS = """
    relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    and relnamespace::regnamespace::text !~ '^pg_(toast|temp)'"""

Catalog = dict[str, set[tuple[Any, ...]]]


def catalog(conninfo: str) -> Catalog:
    """Read everything that a migration could leave behind in a database or its cluster."""
    with psycopg.connect(
        conninfo, autocommit=True, options="-c search_path=pg_catalog"
    ) as connection:
        return {
            kind: {
                tuple(tuple(v) if isinstance(v, list) else v for v in row)
                for row in connection.execute(query.replace("{ours}", _OURS)).fetchall()
            }
            for kind, query in _QUERIES.items()
        }


def difference(before: Catalog, after: Catalog) -> dict[str, dict[str, set[tuple[Any, ...]]]]:
    """Return what came and what went, kind by kind; empty if nothing did."""
    return {
        kind: {"gone": before[kind] - after[kind], "new": after[kind] - before[kind]}
        for kind in before
        if before[kind] != after[kind]
    }
