-- The portal's two roles; nobody logs in as them and no application is a member of them.
--
-- pysync_fan_out runs the triggers, and so meets tables of applications: a trigger, a type or a view
-- that their owners put there runs as this role. It owns the trigger functions and what only these
-- call, nothing that anybody else calls, and may create nothing: who gets to be it reaches rows of
-- the fan-out, and the sessions of those who write these same tables of applications.
--
-- pysync_owner owns what applications, pushers and administrators call, and touches pysync's own
-- tables only.
do $$
declare
    role_name text;
begin
    -- Others than superusers have to say so if they are to act as a role they make.
    if pg_catalog.current_setting('createrole_self_grant', true) is not null then
        perform pg_catalog.set_config('createrole_self_grant', 'set, inherit', true);
    end if;
    foreach role_name in array array['pysync_fan_out', 'pysync_owner'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            begin
                execute format('create role %I nologin', role_name);
                execute format('comment on role %I is %L', role_name, case role_name
                    when 'pysync_owner' then 'Owns what applications call of pysync on a portal'
                    else 'Runs pysync''s triggers on a portal'
                end || '; nobody logs in as it. See pysync''s README.');
            exception
                when duplicate_object or unique_violation then
                    null;  -- another database of this cluster was migrated at the same moment
            end;
        end if;
    end loop;
end
$$;

grant usage on schema public, course, pysync to pysync_fan_out;
grant select, update (id) on public.auth_user to pysync_fan_out;
grant select on public.auth_userprofile, public.student_courseenrollment to pysync_fan_out;
grant select, insert, update, delete
   on {replicated_tables}
   to pysync_fan_out;
grant select (course_id, fans_out) on pysync.course to pysync_fan_out;
grant select on pysync.setting to pysync_fan_out;
grant select, update on pysync.registry_change to pysync_fan_out;
grant select, insert, update, delete on pysync.member_change, pysync.profile_change to pysync_fan_out;
grant select, insert, update (user_id) on pysync.discussion_change to pysync_fan_out;

grant usage on schema course, pysync to pysync_owner;
grant select, insert, update on course.mark to pysync_owner;
grant select (course_id, replication_role, relay, carries) on pysync.course to pysync_owner;
grant select on pysync.setting to pysync_owner;
grant select, insert, update, delete
   on pysync.discussion_change, pysync.discussion_outbox
   to pysync_owner;
