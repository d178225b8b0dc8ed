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
