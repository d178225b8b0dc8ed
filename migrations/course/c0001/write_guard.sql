create or replace function course.write_guard(relation regclass)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select array_agg(guard.definition order by guard.definition)
  from (select tgenabled::text || ' ' || pg_get_triggerdef(oid)
          from pg_catalog.pg_trigger
         where tgrelid = relation and tgname ^@ 'pysync_'
         union all
        select conname::text || ' ' || pg_get_constraintdef(oid)
          from pg_catalog.pg_constraint
         where conrelid = relation and conname ^@ 'pysync_'
         union all
        select attname || ' ' || atttypid::regtype
          from pg_catalog.pg_attribute
         where attrelid = relation
           and atttypid = to_regtype('course.this_course_id')) as guard (definition)
$$;

revoke all on function course.write_guard(regclass) from public;
comment on function course.write_guard(regclass) is
    'What keeps local writes out of a replicated table, to be compared.';
