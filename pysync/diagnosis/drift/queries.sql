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
 where c.oid = any (%(tables)s::text[]::pg_catalog.regclass[])
   and not exists (select from course.adoption a
                    where a.table_name = c.relname and a.keeps_owner)
 order by 1;

-- name: subscription
-- What a subscription follows, and whether its owner is a superuser.
select s.subslotname::text, s.subpublications::text[], r.rolsuper
  from pg_catalog.pg_subscription s
  join pg_catalog.pg_database d on d.oid = s.subdbid and d.datname = pg_catalog.current_database()
  join pg_catalog.pg_roles r on r.oid = s.subowner
 where s.subname = %(name)s;

-- name: surroundings
-- Where else relations have the replicated tables' names, and the database's own search_path.
select array(select pg_catalog.format('%%s.%%s', n.nspname, c.relname)
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where n.nspname <> 'course' and not n.nspname ^@ 'pg_' and c.relname = any (%(tables)s)
                and c.relkind in ('r', 'p', 'v', 'm', 'f')
              order by 1),
       (select pg_catalog.substr(setting, 13)
          from pg_catalog.pg_db_role_setting s
          join pg_catalog.pg_database d on d.oid = s.setdatabase
          cross join unnest(s.setconfig) as setting
         where d.datname = pg_catalog.current_database() and s.setrole = 0
           and setting ^@ 'search_path=');

-- name: own_search_paths
-- Roles that may read the replicated tables and have a search_path of their own. A superuser's counts
-- where it was set for this database: else it is the server's administrator's.
select r.rolname::text, path.setting
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
 order by 1;

-- name: forced_row_security
-- Replicated tables into which replication can't write, since policies hold for their owners, too.
select c.relname::text
  from pg_catalog.pg_class c
  join pg_catalog.pg_roles r on r.oid = c.relowner and not r.rolsuper and not r.rolbypassrls
 where c.relnamespace = 'course'::pg_catalog.regnamespace and c.relname = any (%(tables)s)
   and c.relrowsecurity and c.relforcerowsecurity
 order by 1;

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
