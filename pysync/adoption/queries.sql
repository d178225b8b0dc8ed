-- name: tables
-- Tables as the catalog has them, a row per table; what they have many of as lists of objects.
select c.relname::text as name, c.relkind::text as kind, c.relrowsecurity as row_security,
       coalesce((
           select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                      'name', a.attname,
                      'type', case when t.typname = 'this_course_id' and t.typnamespace = c.relnamespace
                                   then pg_catalog.format_type(t.typbasetype, t.typtypmod)
                                   else pg_catalog.format_type(a.atttypid, a.atttypmod)
                              end,
                      'not_null', a.attnotnull,
                      'has_default', a.atthasdef or a.attidentity <> '',
                      'varies', a.attidentity <> ''
                                or coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid)
                                            ~ '(nextval|uuid\w*)\(', false)
                  ) order by a.attnum)
             from pg_catalog.pg_attribute a
             join pg_catalog.pg_type t on t.oid = a.atttypid
             left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]') as columns,
       -- Those that cover all rows and have no expressions.
       coalesce((
           select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                      'primary', i.indisprimary,
                      'unique', i.indisunique and i.indimmediate or i.indisprimary,
                      'columns', (
                          select pg_catalog.jsonb_agg(a.attname order by k.position)
                            from unnest(i.indkey) with ordinality as k (attnum, position)
                            join pg_catalog.pg_attribute a
                              on a.attrelid = i.indrelid and a.attnum = k.attnum
                           where k.position <= i.indnkeyatts)))
             from pg_catalog.pg_index i
            where i.indrelid = c.oid and i.indisvalid
              and i.indpred is null and i.indexprs is null), '[]') as indexes,
       coalesce((
           select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                      'name', f.conname,
                      'column', a.attname,
                      'target', n.nspname || '.' || target.relname,
                      'cascades', f.confdeltype = 'c',
                      'definition', pg_catalog.pg_get_constraintdef(f.oid)
                  ) order by f.conname)
             from pg_catalog.pg_constraint f
             join pg_catalog.pg_attribute a
               on a.attrelid = f.conrelid and f.conkey = array[a.attnum]
             join pg_catalog.pg_class target on target.oid = f.confrelid
             join pg_catalog.pg_namespace n on n.oid = target.relnamespace
            where f.conrelid = c.oid and f.contype = 'f' and f.convalidated), '[]') as foreign_keys,
       coalesce((
           select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                      'kind', rule.kind, 'name', rule.name, 'key', rule.key,
                      'columns', rule.columns, 'plain', rule.plain
                  ) order by rule.kind, rule.name)
             from (select case when i.indisexclusion
                               then 'an exclusion constraint' else 'unique' end as kind,
                          of.relname::text as name,
                          array(select a.attname::text
                                  from pg_catalog.pg_attribute a
                                 where a.attrelid = i.indrelid
                                   and a.attnum = any (
                                           (i.indkey::int2[])[0:i.indnkeyatts - 1])) as key,
                          -- Those inside expressions and predicates are known by what the index
                          -- depends on.
                          array(select distinct a.attname::text
                                  from pg_catalog.pg_depend d
                                  join pg_catalog.pg_attribute a
                                    on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
                                  left join pg_catalog.pg_constraint k
                                    on k.oid = d.objid and k.conindid = i.indexrelid
                                   and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
                                 where d.refobjid = i.indrelid
                                   and (d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                                          and d.objid = i.indexrelid
                                        or d.classid
                                               = 'pg_catalog.pg_constraint'::pg_catalog.regclass
                                          and k.oid is not null)) as columns,
                          i.indexprs is null and i.indpred is null and not i.indisexclusion
                              and not i.indnullsnotdistinct as plain
                     from pg_catalog.pg_index i
                     join pg_catalog.pg_class of on of.oid = i.indexrelid
                    where i.indrelid = c.oid and (i.indisunique or i.indisexclusion)
                    union all
                   select 'a CHECK constraint', k.conname::text, array[]::text[],
                          array(select a.attname::text
                                  from pg_catalog.pg_attribute a
                                 where a.attrelid = k.conrelid and a.attnum = any (k.conkey)),
                          true
                     from pg_catalog.pg_constraint k
                    where k.conrelid = c.oid and k.contype = 'c') as rule), '[]') as restrictions
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = %(schema)s and c.relname = any (%(names)s) and c.relkind::text = any (%(kinds)s);

-- name: duplicates
-- The first keys that occur twice where a constraint is to make them unique.
select array[{texts}] from {table} where ({columns}) is not null
 group by {columns} having pg_catalog.count(*) > 1 order by {columns} limit {most};
