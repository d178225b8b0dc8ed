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
