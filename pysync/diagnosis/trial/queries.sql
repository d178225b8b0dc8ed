-- name: peek
-- Pending changes of a slot, which stay in it.
declare pending no scroll cursor for
select data
  from pg_catalog.pg_logical_slot_peek_binary_changes(
           {slot}, null, {limit}, 'proto_version', '1', 'publication_names', {slot});

-- name: published
-- What a publication carries of a fan-out table.
select attnames::text[], rowfilter
  from pg_catalog.pg_publication_tables
 where pubname = %(publication)s and schemaname = 'course' and tablename = %(table)s;

-- name: index_columns
-- The columns of an index on a table, unless it has expressions or covers some rows only.
select array(select a.attname::text
               from pg_catalog.pg_attribute a
              where a.attrelid = i.indrelid
                and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
              order by a.attnum)
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
 where c.relname = %(index)s and i.indrelid = pg_catalog.to_regclass(%(table)s)
   and i.indexprs is null and i.indpred is null;

-- name: column_names
-- The columns that a table has.
select array(select attname::text
               from pg_catalog.pg_attribute
              where attrelid = pg_catalog.to_regclass(%(table)s)
                and attnum > 0 and not attisdropped);

-- name: worker
-- A subscription's owner, and whether its workers act as that for all tables.
select r.rolname::text, {as_owner}
  from pg_catalog.pg_subscription as s
  join pg_catalog.pg_database as d
    on d.oid = s.subdbid and d.datname = pg_catalog.current_database()
  join pg_catalog.pg_roles as r on r.oid = s.subowner
 where s.subname = %(name)s;

-- name: may_act_as
-- Whether a role may set another one.
select pg_catalog.pg_has_role(%s::name, %s::name, 'set');

-- name: lacks
-- What a role must be granted to write into a table, and what is to be done about row security.
select (select string_agg(each.privilege, ', ')
          from unnest('{select,insert,update,delete}'::text[]) as each (privilege)
         where not pg_catalog.has_table_privilege(%(role)s, c.oid, each.privilege)) as privileges,
       case when not c.relrowsecurity or r.rolsuper or r.rolbypassrls then null
            when r.oid <> c.relowner then 'disable'
            when c.relforcerowsecurity then 'no force' end
  from pg_catalog.pg_class as c, pg_catalog.pg_roles as r
 where c.oid = pg_catalog.to_regclass(%(table)s) and r.rolname = %(role)s;
