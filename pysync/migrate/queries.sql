-- name: objects
-- What pysync has in a database, a row per object. `facts` are what the catalog itself says, in
-- every major the same; `definition` is what the server makes of a parse tree, which the next major
-- may spell differently. Run with search_path = pg_catalog, so that all names are qualified.
-- Of tables that belong to applications or a site, only what is called pysync_* is ours, and what
-- our roles may do with them.
with relations as (
    select c.oid, c.oid::pg_catalog.regclass::text as name, c.relkind, c.relowner, c.relacl,
           c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
           n.nspname || '.' || c.relname = any ({tables})
               or c.relkind = 'v' and n.nspname = any ({schemas}) as ours
      from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'v')
       and (n.nspname = any ({schemas}) or n.nspname = 'public')
), functions as (
    select p.*
      from pg_catalog.pg_proc p
      join pg_catalog.pg_namespace n on n.oid = p.pronamespace
     where n.nspname = any ({schemas}) and p.prokind in ('f', 'p')
), rights as (
    -- The catalogs give out their oids apart: after pg_upgrade a view may have a function's.
    select of.catalog, of.oid,
           coalesce(pg_catalog.jsonb_agg(distinct of.may) filter (where of.grantee = 0), '[]')
               as public,
           coalesce(pg_catalog.jsonb_agg(distinct of.may || ' to ' || role.rolname) filter (
               where role.rolname in ('pysync_fan_out', 'pysync_owner')), '[]') as granted
      from (select 'pg_class' as catalog, r.oid, a.grantee, pg_catalog.lower(a.privilege_type) as may
              from relations r
              cross join pg_catalog.aclexplode(
                  coalesce(r.relacl, pg_catalog.acldefault('r', r.relowner))) as a
            union all
            select 'pg_class', r.oid, a.grantee,
                   pg_catalog.lower(a.privilege_type) || ' (' || c.attname || ')'
              from relations r
              join pg_catalog.pg_attribute c on c.attrelid = r.oid and c.attacl is not null
              cross join pg_catalog.aclexplode(c.attacl) as a
            union all
            select 'pg_proc', f.oid, a.grantee, pg_catalog.lower(a.privilege_type)
              from functions f
              cross join pg_catalog.aclexplode(
                  coalesce(f.proacl, pg_catalog.acldefault('f', f.proowner))) as a
            union all
            select 'pg_namespace', n.oid, a.grantee, pg_catalog.lower(a.privilege_type)
              from pg_catalog.pg_namespace n
              cross join pg_catalog.aclexplode(
                  coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) as a
             where n.nspname = any ({schemas})) as of
      left join pg_catalog.pg_roles role on role.oid = of.grantee
     group by of.catalog, of.oid
), owners as (
    -- Null is whoever migrated: a restored dump may have all of it belong to somebody else.
    select r.oid, nullif(r.oid, installed.relowner) as named, r.rolname
      from pg_catalog.pg_roles r
      cross join (select c.relowner from pg_catalog.pg_class c
                   where c.oid = {installed}::pg_catalog.regclass) as installed
)
select 'schema' as kind, '' as relation, n.nspname::text as name,
       pg_catalog.jsonb_build_object(
           'public', rights.public, 'granted', rights.granted) as facts,
       null::text as definition
  from pg_catalog.pg_namespace n
  join rights on (rights.catalog, rights.oid) = ('pg_namespace', n.oid)
 where {is_portal} and n.nspname = any ({schemas})
union all
select case r.relkind when 'v' then 'view' else 'table' end, '', r.name,
       pg_catalog.jsonb_build_object(
           'owner', case when owner.named is not null then owner.rolname end,
           'row security', case when r.relrowsecurity then 'on' else 'off' end,
           'row security of owners', case when r.relforcerowsecurity then 'on' else 'off' end,
           'options', case r.relkind when 'v' then r.reloptions end,
           'public', rights.public,
           'granted', rights.granted),
       case r.relkind when 'v' then pg_catalog.pg_get_viewdef(r.oid) end
  from relations r
  join rights on (rights.catalog, rights.oid) = ('pg_class', r.oid)
  join owners owner on owner.oid = r.relowner
 where r.ours
union all
select 'table', '', r.name, pg_catalog.jsonb_build_object('granted', rights.granted), null
  from relations r
  join rights on (rights.catalog, rights.oid) = ('pg_class', r.oid)
 where not r.ours and rights.granted <> '[]'
union all
select 'column', r.name, a.attname::text,
       pg_catalog.jsonb_build_object(
           'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
           'nullable', not a.attnotnull,
           'identity', a.attidentity::text),
       pg_catalog.pg_get_expr(d.adbin, d.adrelid)
  from relations r
  join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where r.ours and r.relkind <> 'v'
union all
select 'constraint', r.name, k.conname::text,
       pg_catalog.jsonb_build_object(
           'kind', k.contype::text,
           'columns', (select pg_catalog.jsonb_agg(a.attname order by of.position)
                         from unnest(k.conkey) with ordinality as of (attnum, position)
                         join pg_catalog.pg_attribute a
                           on a.attrelid = k.conrelid and a.attnum = of.attnum),
           'to', nullif(k.confrelid, 0)::pg_catalog.regclass::text,
           'valid', k.convalidated,
           'deferrable', k.condeferrable),
       pg_catalog.pg_get_constraintdef(k.oid)
  from relations r
  join pg_catalog.pg_constraint k on k.conrelid = r.oid and k.contype in ('c', 'f', 'p', 'u', 'x')
 where r.ours or k.conname ^@ 'pysync_'
union all
select 'domain', '', t.oid::pg_catalog.regtype::text,
       (select pg_catalog.jsonb_object_agg(r.name || '.' || a.attname, 'of this type')
          from relations r
          join pg_catalog.pg_attribute a on a.attrelid = r.oid
         where a.atttypid = t.oid),
       (select pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(k.oid), ' ' order by k.conname)
          from pg_catalog.pg_constraint k
         where k.contypid = t.oid)
  from pg_catalog.pg_type t
  join pg_catalog.pg_namespace n on n.oid = t.typnamespace
 where t.typtype = 'd' and n.nspname = any ({schemas})
union all
select 'index', r.name, c.relname::text,
       pg_catalog.jsonb_build_object('unique', i.indisunique, 'valid', i.indisvalid),
       pg_catalog.pg_get_indexdef(i.indexrelid)
  from relations r
  join pg_catalog.pg_index i on i.indrelid = r.oid
  join pg_catalog.pg_class c on c.oid = i.indexrelid
 where r.ours
   and not exists (select from pg_catalog.pg_constraint k
                    where k.conindid = i.indexrelid and k.conrelid = i.indrelid
                      and k.contype in ('p', 'u', 'x'))
union all
select 'trigger', r.name, t.tgname::text,
       pg_catalog.jsonb_build_object(
           'enabled', t.tgenabled::text,
           'function', t.tgfoid::pg_catalog.regproc::text,
           'events', t.tgtype,
           'arguments', pg_catalog.encode(t.tgargs, 'escape'),
           'deferrable', t.tgdeferrable),
       pg_catalog.pg_get_triggerdef(t.oid)
  from relations r
  join pg_catalog.pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
 where r.ours or t.tgname ^@ 'pysync_'
union all
select 'policy', r.name, p.polname::text,
       pg_catalog.jsonb_build_object(
           'permissive', p.polpermissive,
           'command', p.polcmd::text,
           'roles', (select pg_catalog.jsonb_agg(coalesce(role.rolname, 'public') order by 1)
                       from unnest(p.polroles) as of (oid)
                       left join pg_catalog.pg_roles role on role.oid = of.oid)),
       pg_catalog.concat_ws(' with check ', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
                            pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
  from relations r
  join pg_catalog.pg_policy p on p.polrelid = r.oid
 where r.ours or p.polname ^@ 'pysync_'
union all
select 'function', '', f.oid::pg_catalog.regprocedure::text,
       pg_catalog.jsonb_build_object(
           -- Spaces and comments may differ; what is quoted may not.
           'body', pg_catalog.md5(pg_catalog.btrim(pg_catalog.regexp_replace(
                       pg_catalog.regexp_replace(f.prosrc, e'(''[^'']*'')|--[^\n]*', '\1', 'g'),
                       '\s+', ' ', 'g'))),
           'language', l.lanname,
           'security', case when f.prosecdef then 'definer' else 'invoker' end,
           'settings', f.proconfig,
           'volatility', f.provolatile::text,
           'strict', f.proisstrict,
           'parallel', f.proparallel::text,
           'owner', case when owner.named is not null then owner.rolname end)
       || case when {is_portal} then pg_catalog.jsonb_build_object('public', rights.public)
               else '{{}}' end,
       pg_catalog.concat_ws(' ', pg_catalog.pg_get_function_arguments(f.oid),
                            pg_catalog.pg_get_function_result(f.oid),
                            pg_catalog.pg_get_function_sqlbody(f.oid))
  from functions f
  join pg_catalog.pg_language l on l.oid = f.prolang
  join rights on (rights.catalog, rights.oid) = ('pg_proc', f.oid)
  join owners owner on owner.oid = f.proowner

-- name: recorded_tables
-- The tables that are all ours; of others only rights were recorded.
select pg_catalog.array_agg(name) from {table} where kind = 'table' and facts ? 'row security'

-- name: record
-- Remember what a migration has made.
insert into {table} (kind, relation, name, facts, definition, major)
select kind, relation, name, facts, definition,
       pg_catalog.current_setting('server_version_num')::integer / 10000
  from {objects} as present

-- name: recorded_elsewhere
-- Whether another major recorded what there is.
select true
  from {table}
 where major <> pg_catalog.current_setting('server_version_num')::integer / 10000
 limit 1

-- name: respell
-- Remember how this major spells what another one recorded, where the facts are the same: where
-- `differences` would tell none.
update {table} as recorded
   set definition = present.definition,
       major = pg_catalog.current_setting('server_version_num')::integer / 10000
  from {objects} as present
 where (recorded.kind, recorded.relation, recorded.name)
       = (present.kind, present.relation, present.name)
   and recorded.facts - 'granted' = present.facts - 'granted'
   and (present.facts -> 'granted') @> (recorded.facts -> 'granted') is not false
   and recorded.major <> pg_catalog.current_setting('server_version_num')::integer / 10000

-- name: differences
-- What is missing, differs from what was recorded, or was added where it does harm. Of a table that
-- is missing nothing else is told.
select kind, relation, name, recorded.facts as recorded, present.facts as present,
       recorded.definition,
       (select c.relowner from pg_catalog.pg_class c
         where c.oid = {installed}::pg_catalog.regclass)::pg_catalog.regrole::text as installer
  from {table} as recorded
  full join {objects} as present using (kind, relation, name)
 where case
           when present.facts is null then
               relation = '' or pg_catalog.to_regclass(relation) is not null
           when recorded.facts is null then
               {is_portal} and relation ^@ 'course.'
               and (kind in ('constraint', 'policy', 'trigger')
                    or kind = 'index' and (present.facts ->> 'unique')::boolean)
           else
               recorded.facts - 'granted' <> present.facts - 'granted'
               or not (present.facts -> 'granted') @> (recorded.facts -> 'granted')
               or recorded.major = pg_catalog.current_setting('server_version_num')::integer / 10000
                  and recorded.definition is distinct from present.definition
       end
 order by kind, relation, name

-- name: published_columns
-- The tables of a publication, each with its columns.
select c.relname::text,
       array(select a.attname::text
               from pg_catalog.pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                and (r.prattrs is null or a.attnum = any (r.prattrs))
              order by a.attnum)
  from pg_catalog.pg_publication p
  join pg_catalog.pg_publication_rel r on r.prpubid = p.oid
  join pg_catalog.pg_class c on c.oid = r.prrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'course'
 where p.pubname = %(name)s;

-- name: behind
-- Users whose rows in a course's fan-out aren't what the source tables say.
select distinct user_id
  from pysync.fan_out_differences(%(course_id)s) as difference
  cross join unnest(difference.user_ids) as user_id
 order by user_id;

-- name: users_of_course
-- All of whom a course holds rows. Whoever is enrolled later is streamed as the row is inserted.
select id
  from course.auth_user
 where course_id = %(course_id)s
 order by id;

-- name: write_again
-- Write the rows of users that hold anything in some columns, and return the users of those that
-- somebody else is writing. By arrays: whatever the statistics say, indexes are used.
with wanted as materialized (
    select copy.id, copy.{user_id} as user_id
      from {table} as copy
     where copy.course_id = %(course_id)s
       and copy.{user_id} = any (%(user_ids)s::bigint[])
       and ({holds})
), free as materialized (
    select copy.id
      from {table} as copy
     where copy.course_id = %(course_id)s
       and copy.{user_id} = any (%(user_ids)s::bigint[])
       and ({holds})
       for no key update skip locked
), written as (
    update {table} as copy
       set ({columns}) = row({values})
     where copy.course_id = %(course_id)s
       and copy.id = any (array(select id from free))
)
select wanted.user_id
  from wanted
 where not exists (select from free where free.id = wanted.id);

-- name: not_valid
-- Tables, names and conditions of constraints, out of these, that hold for new rows only.
select c.relname::text, k.conname::text, pg_catalog.pg_get_expr(k.conbin, k.conrelid)
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_class c on c.oid = k.conrelid
  join unnest(%(tables)s::text[], %(names)s::text[]) as ours (table_name, constraint_name)
    on ours.table_name = c.relname and ours.constraint_name = k.conname
 where c.relnamespace = 'public'::pg_catalog.regnamespace
   and k.contype = 'c' and not k.convalidated
 order by 1, 2;

-- name: lacks_references
-- The owner of a table, if it may not have that point at another one.
select r.rolname::text
  from pg_catalog.pg_class c
  join pg_catalog.pg_roles r on r.oid = c.relowner
 where c.oid = %(table)s::pg_catalog.regclass
   and not pg_catalog.has_table_privilege(r.oid, %(referred)s, 'references');

-- name: refuse_rows
-- Fail if a table that is about to be dropped holds rows.
do $$
begin
    if exists (select from {}) then
        raise exception using errcode = 'PY006', message = {};
    end if;
end $$;

-- name: migrating
-- Who migrates this database: has a lock on the version table, or makes the schema that will have it.
-- Others can't see that schema yet, but whoever puts something into it has a lock on it.
select held.pid, others.usename::text, coalesce(others.application_name, ''),
       coalesce(pg_catalog.date_trunc('second', others.xact_start)::text, 'unknown')
  from pg_catalog.pg_locks held
  join pg_catalog.pg_stat_activity others on others.pid = held.pid
 where held.granted and held.pid <> pg_catalog.pg_backend_pid()
   and others.datname = pg_catalog.current_database()
   and (held.relation = pg_catalog.to_regclass(%(table)s) and held.mode <> 'AccessShareLock'
        or held.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
           and not exists (select from pg_catalog.pg_namespace n where n.oid = held.objid))
 limit 1;

-- name: found_tables
-- Whether schema public has something under one of these names.
select exists (select from pg_catalog.pg_class
                where relnamespace = 'public'::pg_catalog.regnamespace
                  and relname = any (%(names)s::text[]));

-- name: registered_columns
-- The columns of the portal's own that are carried, or whose removal has begun.
select table_name, column_name, type, collation_name, not_null, scrub, takes_over, removal
  from pysync.carried_column
 order by table_name, added_at, column_name;

-- name: columns_here
-- The carried columns that a course database has, and whether pysync made them.
select table_name, column_name, type, collation_name, not_null, scrub, takes_over, made
  from course.carried_column;

-- name: enter_column
-- Remember that a course database has a carried column.
insert into course.carried_column (table_name, column_name, type, collation_name, not_null, scrub,
                                   takes_over, made)
values ({table_name}, {column_name}, {type}, {collation_name}, {not_null}, {scrub}, {takes_over}, {made})
    on conflict (table_name, column_name) do update
   set (type, collation_name, not_null, scrub, takes_over)
       = row(excluded.type, excluded.collation_name, excluded.not_null, excluded.scrub,
             excluded.takes_over);

-- name: forget_column
-- Forget a column that isn't carried any more.
delete from course.carried_column where table_name = {} and column_name = {};

-- name: has_type
-- Whether a type is there, as it is written with its modifier.
select pg_catalog.to_regtype(%s) is not null;

-- name: present_columns
-- What a schema's tables have of some columns: type, collation unless it is the type's own, whether it
-- may be null, and its default.
select c.relname::text as table_name, a.attname::text as column_name,
       pg_catalog.format_type(a.atttypid, a.atttypmod) as type,
       case when a.attcollation <> t.typcollation
            then a.attcollation::pg_catalog.regcollation::text end as collation_name,
       a.attnotnull as not_null,
       pg_catalog.pg_get_expr(d.adbin, d.adrelid) as default_expression
  from unnest(%(tables)s::text[], %(names)s::text[]) as wanted (table_name, column_name)
  join pg_catalog.pg_class c on c.relname = wanted.table_name
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = %(schema)s
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = wanted.column_name
  join pg_catalog.pg_type t on t.oid = a.atttypid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attnum > 0 and not a.attisdropped;

-- name: make_fallback
-- What a row of the portal's own table has under a column's name once it has lost the column.
create or replace function {fallback}({table})
returns course.absent
language sql
immutable
parallel safe
as $$ select null::course.absent $$;

-- name: close_fallback
-- Nobody else needs it.
revoke all on function {fallback}({table}) from public;

-- name: grant_fallback
-- Those do that run the portal's functions.
grant execute on function {fallback}({table}) to pysync_fan_out, pysync_owner;

-- name: describe_fallback
-- Say what it is.
comment on function {fallback}({table}) is
    'What a row has here once its table has lost the column of this name: see course.as_text().';

-- name: drop_fallback
-- Drop it.
drop function if exists {fallback}({table});

-- name: register_column
-- Have a column carried, or carried as it is now. No catalog is as it was compared any more.
with entered as (
    insert into pysync.carried_column (table_name, column_name, type, collation_name, not_null, scrub,
                                       takes_over)
    values (%(table_name)s, %(column_name)s, %(type)s, %(collation_name)s, %(not_null)s, %(scrub)s,
            %(takes_over)s)
        on conflict (table_name, column_name) do update
       set (type, collation_name, not_null, scrub, takes_over, removal)
           = row(excluded.type, excluded.collation_name, excluded.not_null, excluded.scrub,
                 excluded.takes_over, null)
)
update pysync.course set catalog_fingerprint = null where catalog_fingerprint is not null;

-- name: unfill
-- Have a column's values streamed once more, to every course.
update pysync.course
   set unfilled = array(select unnest(unfilled) union select %(column)s);

-- name: remove_column
-- Have a column carried no longer, once that is done everywhere.
update pysync.carried_column
   set removal = %(removal)s
 where table_name = %(table_name)s and column_name = %(column_name)s;

-- name: forget_removed
-- Forget the columns that no database carries any more.
delete from pysync.carried_column where removal is not null;

-- name: membership
-- The column that says which enrollments count, if that was decided; null is all of them.
select column_name from pysync.membership;

-- name: decision
-- What was decided, and when.
select column_name as "column", decided_at from pysync.membership;

-- name: booleans
-- The columns of one of the portal's own tables that are boolean.
select a.attname::text
  from pg_catalog.pg_attribute a
 where a.attrelid = pg_catalog.to_regclass('public.' || %(table)s)
   and a.attnum > 0 and not a.attisdropped and a.atttypid = 'boolean'::pg_catalog.regtype
 order by a.attnum;

-- name: decide_membership
-- Enter which do. A trigger waits for enrollments under way, and has later ones wait.
insert into pysync.membership (column_name) values (%s)
    on conflict (singleton) do update set (column_name, decided_at) = row(excluded.column_name, now());

-- name: unfill_membership
-- Remember that courses' members aren't those yet that count.
update pysync.course
   set unfilled = array(select unnest(unfilled) union select {})
 where fans_out and not course_id ^@ {};

-- name: membership_changes
-- How many enrollments would leave each course's fan-out, and how many would come. By a condition.
select enrollment.course_id::text,
       count(*) filter (where copy.id is not null and not ({counts})),
       count(*) filter (where copy.id is null and ({counts}))
  from public.student_courseenrollment as enrollment
  join pysync.course as registered
    on registered.course_id = enrollment.course_id and registered.fans_out
  left join course.student_courseenrollment as copy
    on copy.user_id = enrollment.user_id and copy.course_id = enrollment.course_id
 group by 1
 order by 1;

-- name: own_columns
-- What one of the portal's own tables has beside some columns.
select a.attname::text
  from pg_catalog.pg_attribute a
 where a.attrelid = pg_catalog.to_regclass('public.' || %(table)s)
   and a.attnum > 0 and not a.attisdropped and a.attname <> all (%(known)s)
 order by a.attnum;

-- name: is_virtual
-- Whether a column of the portal's own is generated, and not stored.
select true
  from pg_catalog.pg_attribute a
 where a.attrelid = pg_catalog.to_regclass('public.' || %s) and a.attname = %s
   and a.attgenerated = 'v';

-- name: default_of
-- The default of a column of the portal's own, if it has one and isn't generated.
select pg_catalog.pg_get_expr(d.adbin, d.adrelid)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = pg_catalog.to_regclass('public.' || %s) and a.attname = %s
   and a.attgenerated = '';
