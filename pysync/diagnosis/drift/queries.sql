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

-- name: surroundings
-- What hides the replicated tables from applications, and the database's own search_path.
select array(select c.relname::text
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where n.nspname = 'public' and c.relname = any (%(tables)s) order by 1),
       (select pg_catalog.substr(setting, 13)
          from pg_catalog.pg_db_role_setting s
          join pg_catalog.pg_database d on d.oid = s.setdatabase
          cross join unnest(s.setconfig) as setting
         where d.datname = pg_catalog.current_database() and s.setrole = 0
           and setting ^@ 'search_path=');
