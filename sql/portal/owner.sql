-- The role that the portal's trigger functions run as. Nobody logs in as it and no application is a
-- member of it. It owns these functions and nothing else, and may create nothing: a trigger that an
-- application puts on its own auth_user runs as this role when one of our functions touches that
-- table, and gains the rights below, but nothing that an administrator would run later.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'pysync_owner') then
        create role pysync_owner nologin;
        comment on role pysync_owner is
            'Owns pysync''s functions on a portal; nobody logs in as it. See pysync''s README.';
    end if;
exception
    when duplicate_object or unique_violation then
        null;  -- another database of this cluster was migrated at the same moment
end
$$;

grant usage on schema public, course, pysync to pysync_owner;
grant select, update (id) on public.auth_user to pysync_owner;
grant select, update (id) on public.auth_userprofile to pysync_owner;
grant select on public.student_courseenrollment to pysync_owner;
grant select, insert, update, delete
   on {replicated_tables}
   to pysync_owner;
grant select, insert, update on course.mark to pysync_owner;
grant select on pysync.course to pysync_owner;
grant select, update on pysync.registry_change to pysync_owner;
