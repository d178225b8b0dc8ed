-- name: references_to
-- The foreign keys that point at a table, one for all partitions of theirs.
select con.conname::text as name, n.nspname::text as schema, c.relname::text as table,
       array(select a.attname::text
               from unnest(con.conkey) with ordinality as k (attnum, position)
               join pg_catalog.pg_attribute a
                 on a.attrelid = con.conrelid and a.attnum = k.attnum
              order by k.position) as columns,
       array(select a.attname::text
               from unnest(con.confkey) with ordinality as k (attnum, position)
               join pg_catalog.pg_attribute a
                 on a.attrelid = con.confrelid and a.attnum = k.attnum
              order by k.position) as referred,
       con.confdeltype in ('c', 'n', 'd') as follows
  from pg_catalog.pg_constraint con
  join pg_catalog.pg_class c on c.oid = con.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where con.contype = 'f'
   and con.conparentid = 0
   and con.confrelid = pg_catalog.to_regclass(%(table)s)
 order by 2, 3, 1;

-- name: needs_restriction
-- Whether a role has fewer rights than we do, and so code of its own must not run with ours.
select rolname <> current_user and not rolsuper from pg_catalog.pg_roles where rolname = %s;

-- name: owner
-- A relation's owner, and whether it can use the relation by name.
select r.rolname::text, pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage'),
       pg_catalog.set_config('row_security', 'off', true)
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_roles r on r.oid = c.relowner
 where n.nspname = %s and c.relname = %s;

-- name: restricted_function
-- Run statements and say where we can read it how many rows they concerned.
create function {function}(statements text[])
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    statement text;
    affected bigint;
    total bigint := 0;
begin
    foreach statement in array statements loop
        execute statement;
        get diagnostics affected = row_count;
        total := total + affected;
    end loop;
    insert into pg_temp.pysync_affected values (total);
    return total;
end
$$;

-- name: restricted_view
-- A refresh runs this as the view's owner, security-restricted.
create materialized view {view} as select {function}({statements}) with no data;

-- name: met_by_superuser
-- Those of these tables that there are; no row unless we are a superuser.
select array(select c.relname::text
               from pg_catalog.pg_class c
              where c.relnamespace = 'public'::pg_catalog.regnamespace
                and c.relname = any (%(tables)s)
                and c.relkind in ('r', 'p', 'v', 'f')
              order by 1)
  from pg_catalog.pg_roles r
 where r.rolname = current_user and r.rolsuper;

-- name: lent_to
-- A table out of these, and who else may hang code on it.
select c.relname::text, coalesce(r.rolname::text, 'public')
  from pg_catalog.pg_class c
 cross join lateral (
           select c.relowner as oid
            union
           select a.grantee
             from pg_catalog.aclexplode(c.relacl) a
            where a.privilege_type = 'TRIGGER'
       ) as holder
  left join pg_catalog.pg_roles r on r.oid = holder.oid
 where c.relnamespace = 'public'::pg_catalog.regnamespace
   and c.relname = any (%(tables)s)
   and not coalesce(r.rolsuper, false)
 order by 1, 2
 limit 1;

-- name: own_session
-- Whether this is the session that was opened, with what was asked for: a pooler gives another one, or
-- leaves that out. What we commit in one database, and it says so, we rely on in another.
select session.is_own,
       case when session.is_own and pg_catalog.current_setting('synchronous_commit') = 'off'
            then pg_catalog.set_config('synchronous_commit', 'local', false) end
  from (select pg_catalog.pg_backend_pid() = %(pid)s
               and pg_catalog.current_setting('search_path') = %(search_path)s) as session (is_own);
