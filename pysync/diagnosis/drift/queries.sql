-- name: published_tables
-- Each publication of these names with a row per table: what it publishes, its columns, its filter.
select p.pubname::text as publication,
       p.pubinsert and p.pubupdate and p.pubdelete and not p.pubtruncate as publishes_changes,
       n.nspname || '.' || c.relname as table,
       case when r.prattrs is not null then
            array(select a.attname::text
                    from unnest(r.prattrs) as k(attnum)
                    join pg_catalog.pg_attribute a
                      on a.attrelid = r.prrelid and a.attnum = k.attnum) end as columns,
       pg_catalog.pg_get_expr(r.prqual, r.prrelid) as row_filter
  from pg_catalog.pg_publication p
  left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid
  left join pg_catalog.pg_class c on c.oid = r.prrelid
  left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where p.pubname = any (%(names)s);

-- name: foreign_owners
-- Replicated tables that aren't pysync's, and were not left to the role that owned them.
select c.relname::text, r.rolname::text
  from pg_catalog.pg_class c
  join pg_catalog.pg_roles r on r.oid = c.relowner and r.rolname <> 'pysync_course'
 where c.relnamespace = 'course'::pg_catalog.regnamespace and c.relname = any (%(tables)s)
   and not exists (select from course.adoption a
                    where a.table_name = c.relname and a.keeps_owner)
 order by 1;

-- name: surroundings
-- Where else relations have the replicated tables' names; the database's own search_path; whether it
-- is a copy; of the replicated tables those that aren't pysync's, and those into which replication
-- can't write, since policies hold for their owners, too. Roles that may read them and have a
-- search_path of their own: a superuser's counts where it was set for this database, else it is the
-- server's administrator's. What the subscription follows, what was set on it, and whether its owner
-- is a superuser: a column that this server's catalog lacks is that of `without`. All in one, since
-- a session that has just begun pays for each statement.
select array(select pg_catalog.format('%%s.%%s', n.nspname, c.relname)
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where n.nspname <> 'course' and not n.nspname ^@ 'pg_' and c.relname = any (%(tables)s)
                and c.relkind in ('r', 'p', 'v', 'm', 'f')
              order by 1) as others,
       (select pg_catalog.substr(setting, 13)
          from pg_catalog.pg_db_role_setting s
          cross join unnest(s.setconfig) as setting
         where s.setdatabase = here.oid and s.setrole = 0
           and setting ^@ 'search_path=') as search_path,
       exists (select from course.this_course, pg_catalog.pg_control_system() as server
                where this_course.portal_id is not null
                  and (this_course.system_identifier, this_course.database_oid)
                      is distinct from (server.system_identifier, here.oid)) as is_copy,
       array(select c.relname::text
               from pg_catalog.pg_class c
              where c.relnamespace = 'course'::pg_catalog.regnamespace
                and c.relname = any (%(tables)s)
                and pg_catalog.pg_get_userbyid(c.relowner) <> 'pysync_course') as foreign,
       array(select c.relname::text
               from pg_catalog.pg_class c
               join pg_catalog.pg_roles r
                 on r.oid = c.relowner and not r.rolsuper and not r.rolbypassrls
              where c.relnamespace = 'course'::pg_catalog.regnamespace
                and c.relname = any (%(tables)s)
                and c.relrowsecurity and c.relforcerowsecurity
              order by 1) as forced,
       array(select array[r.rolname::text, path.setting]
               from pg_catalog.pg_roles r
              cross join lateral (
                        select pg_catalog.substr(setting, 13) as setting
                          from pg_catalog.pg_db_role_setting s
                          left join pg_catalog.pg_database d on d.oid = s.setdatabase
                         cross join unnest(s.setconfig) as setting
                         where s.setrole = r.oid and setting ^@ 'search_path='
                           and (d.datname = pg_catalog.current_database()
                                or s.setdatabase = 0 and not r.rolsuper)
                         order by s.setdatabase = 0
                         limit 1) as path
              where r.rolcanlogin
                and pg_catalog.has_schema_privilege(r.oid, 'course', 'usage')
                and exists (
                        select from unnest(%(tables)s::text[]) as t (name)
                         where pg_catalog.has_any_column_privilege(
                                   r.oid, pg_catalog.to_regclass('course.' || t.name), 'select'))
              order by r.rolname) as own_search_paths,
       (select to_jsonb(found)
          from (values (null::boolean, null::text)) as without (subrunasowner, suborigin)
         cross join lateral (
                   select s.subslotname::text as slot_name, s.subpublications::text[] as publications,
                          r.rolsuper as of_superuser, s.subsynccommit as synchronous_commit,
                          subrunasowner as runs_as_owner, suborigin as origin
                     from pg_catalog.pg_subscription s
                     join pg_catalog.pg_roles r on r.oid = s.subowner
                    where s.subname = %(name)s
                      and s.subdbid = here.oid) as found) as subscription
  from pg_catalog.pg_database as here
 where here.datname = pg_catalog.current_database();

-- name: hiding_policies
-- Policies that hide rows of the portal's own tables from the triggers: table, policy, its two
-- conditions. Without a policy where nothing shows them any.
select c.oid::pg_catalog.regclass::text, hiding.policy::text,
       pg_catalog.pg_get_expr(p.polqual, p.polrelid),
       pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)
  from pg_catalog.pg_class c
 cross join lateral pysync.hiding_policies(c.oid) as hiding
  left join pg_catalog.pg_policy p on p.polrelid = c.oid and p.polname = hiding.policy
 where c.relnamespace = 'public'::pg_catalog.regnamespace and c.relrowsecurity
   and c.relname = any (%(tables)s)
 order by 1, 2;

-- name: children
-- Tables that inherit from the portal's own: no trigger sees their rows, which queries return.
select h.inhrelid::pg_catalog.regclass::text, c.relname::text
  from pg_catalog.pg_inherits h
  join pg_catalog.pg_class c on c.oid = h.inhparent
 where c.relnamespace = 'public'::pg_catalog.regnamespace and c.relname = any (%(tables)s)
 order by 1;

-- name: catalog_fingerprint
-- Which rows the catalog has of all that is in schema course, each with the transaction that wrote it,
-- and what isn't written there when it is altered: names of roles. As few plans as that takes:
-- a report makes them anew in every course. A language's name is left out.
with relations as materialized (
    select c.oid, c.xmin, pg_catalog.pg_get_userbyid(c.relowner)::text as role
      from pg_catalog.pg_class c
     where c.oid >= 16384 and c.relnamespace = 'course'::pg_catalog.regnamespace
), ours as materialized (
    select array(select oid from relations) as relations
), written as (
    select 'pg_class' as catalog, oid, 0 as part, xmin, role from relations
    union all
    select 'pg_attribute', a.attrelid, a.attnum, a.xmin, ''
      from ours, pg_catalog.pg_attribute a
     where a.attrelid = any (ours.relations) and a.attnum > 0
    union all
    select 'pg_attrdef', d.oid, 0, d.xmin, ''
      from ours, pg_catalog.pg_attrdef d
     where d.adrelid = any (ours.relations)
    union all
    select 'pg_constraint', k.oid, 0, k.xmin, ''
      from pg_catalog.pg_constraint k
     where k.oid >= 16384 and k.connamespace = 'course'::pg_catalog.regnamespace
    union all
    select 'pg_index', i.indexrelid, 0, i.xmin, ''
      from ours, pg_catalog.pg_index i
     where i.indrelid = any (ours.relations)
    union all
    select 'pg_trigger', t.oid, 0, t.xmin, ''
      from ours, pg_catalog.pg_trigger t
     where t.tgrelid = any (ours.relations) and not t.tgisinternal
    union all
    select 'pg_policy', p.oid, 0, p.xmin, p.polroles::pg_catalog.regrole[]::text
      from ours, pg_catalog.pg_policy p
     where p.polrelid = any (ours.relations)
    union all
    select 'pg_rewrite', r.oid, 0, r.xmin, ''
      from ours, pg_catalog.pg_rewrite r
     where r.ev_class = any (ours.relations)
    union all
    select 'pg_type', t.oid, 0, t.xmin, ''
      from pg_catalog.pg_type t
     where t.oid >= 16384 and t.typnamespace = 'course'::pg_catalog.regnamespace
    union all
    select 'pg_proc', p.oid, 0, p.xmin, pg_catalog.pg_get_userbyid(p.proowner)::text
      from pg_catalog.pg_proc p
     where p.oid >= 16384 and p.pronamespace = 'course'::pg_catalog.regnamespace
    union all
    select 'pg_namespace', n.oid, 0, n.xmin, ''
      from pg_catalog.pg_namespace n
     where n.nspname = 'course'
)
select pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat_ws(' ',
           extract(epoch from pg_catalog.pg_postmaster_start_time()),
           here.oid,
           array[pg_catalog.to_regrole('pysync_fan_out')::oid,
                 pg_catalog.to_regrole('pysync_owner')::oid],
           (select pg_catalog.string_agg(w::text, ' ' order by w.catalog, w.oid, w.part)
              from written w)), 'UTF8'))
  from pg_catalog.pg_database as here
 where here.datname = pg_catalog.current_database();
