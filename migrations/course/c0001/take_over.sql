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
         where replicated.oid = any (array['course.auth_user', 'course.auth_userprofile',
                                     'course.student_courseenrollment']::regclass[])
           and not exists (select
                             from course.adoption
                            where adoption.table_name = replicated.relname
                              and adoption.keeps_owner)
    loop
        call course.own_table(relation);
    end loop;
end
$$;

revoke all on procedure course.take_over() from public;
comment on procedure course.take_over() is
    'Give the replicated tables to pysync''s own role, but those that a site keeps.';
