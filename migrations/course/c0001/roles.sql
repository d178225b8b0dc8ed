-- The role that the replicated tables belong to, in all course databases of a server; nobody logs
-- in as it, and nobody but who runs pysync is a member. From 16 on rows are applied as it. It owns
-- these tables and nothing else, and may create nothing.
do $$
begin
    -- Others than superusers have to say so if they are to act as a role they make.
    if pg_catalog.current_setting('createrole_self_grant', true) is not null then
        perform pg_catalog.set_config('createrole_self_grant', 'set, inherit', true);
    end if;
    if not exists (select from pg_catalog.pg_roles where rolname = 'pysync_course') then
        begin
            create role pysync_course nologin;
            comment on role pysync_course is
                'Owns the replicated tables of course databases; nobody logs in as it. See pysync''s README.';
        exception
            when duplicate_object or unique_violation then
                null;  -- another database of this cluster was migrated at the same moment
        end;
    end if;
end
$$;

grant usage on schema course to pysync_course;
