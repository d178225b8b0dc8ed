-- The role that owns schemas pysync and course on the portal and runs every trigger function there.
-- Nobody logs in as it and no application is a member of it, so a trigger that an application puts
-- on its own auth_user gains nothing when one of our functions touches that table.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'pysync_owner') then
        create role pysync_owner nologin;
        comment on role pysync_owner is
            'Owns pysync''s schemas on a portal; nobody logs in as it. See pysync''s README.';
    end if;
exception
    when duplicate_object or unique_violation then
        null;  -- another database of this cluster was migrated at the same moment
end
$$;

grant usage on schema public to pysync_owner;
grant select, update (id) on public.auth_user to pysync_owner;
grant select, update (id) on public.auth_userprofile to pysync_owner;
grant select on public.student_courseenrollment to pysync_owner;
