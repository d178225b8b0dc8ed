create or replace procedure course.take_over()
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    relation regclass;
begin
    for relation in
        select replicated.oid
          from pg_catalog.pg_class as replicated
         where replicated.oid = any (array[{'replicated_tables'}]::regclass[])
           and not exists (select
                             from course.adoption
                            where adoption.table_name = replicated.relname
                              and adoption.keeps_owner)
    loop
        -- What is revoked here is granted again when the table is given back.
        update course.adoption
           set revoked = revoked || coalesce((
                   select jsonb_agg(jsonb_build_object(
                              'privilege', granted.privilege_type,
                              'on_column', granted.on_column,
                              'grantee', case granted.grantee
                                             when 0 then null
                                             else pg_get_userbyid(granted.grantee)
                                         end,
                              'grantable', granted.is_grantable))
                     from (select null as on_column, on_table.*
                             from aclexplode(taken.relacl) as on_table
                            union all
                           select attname, on_column.*
                             from pg_catalog.pg_attribute as taken_column
                            cross join aclexplode(taken_column.attacl) as on_column
                            where taken_column.attrelid = taken.oid) as granted
                    where granted.privilege_type in ('REFERENCES', 'TRIGGER')
                      and granted.grantee <> taken.relowner), '[]')
          from pg_catalog.pg_class as taken
         where taken.oid = relation
           and taken.relname = adoption.table_name
           and taken.relowner <> 'pysync_course'::regrole;
        call course.own_table(relation);
    end loop;
end
$$;

revoke all on procedure course.take_over() from public;
comment on procedure course.take_over() is
    'Give the replicated tables to pysync''s own role, but those that a site keeps.';
