-- Serialize changes to what courses hold of these users, whoever makes them.
--
-- Users are written, not only locked: a REPEATABLE READ transaction that updates a user from an
-- older snapshot can't see the enrollment that brought us here and would leave its copy stale; met
-- with a written row it fails with 40001 and is run again. Setting id to itself keeps the update
-- HOT where the page has room and changes no value, so pysync's own triggers stay silent.
-- Profiles have many indexes, so they are only locked; course.profile_updated() makes up for it.
-- Index scans visit the ids in order: two bulk enrollments never wait for each other in a circle.
create or replace function course.write_members(user_ids bigint[], with_profiles boolean)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_variable
declare
    written_users bigint;
begin
    update public.auth_user as portal_user
       set id = id
     where portal_user.id = any (user_ids);
    get diagnostics written_users = row_count;

    if with_profiles then
        perform
           from public.auth_userprofile as profile
          where profile.user_id = any (user_ids)
            for no key update;
    end if;

    return written_users;
end
$$;

alter function course.write_members(bigint[], boolean) owner to pysync_fan_out;
revoke all on function course.write_members(bigint[], boolean) from public;
comment on function course.write_members(bigint[], boolean) is
    'Write users, unchanged, and lock their profiles, in id order; returns how many were written.';
