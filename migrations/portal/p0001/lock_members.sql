-- Wait for, or fail with 40001 at, whoever has written these users: see course.write_members().
-- Enough where something is taken away: what it leaves behind is written anyway. And nothing more
-- is possible while an application's own BEFORE DELETE trigger clears up behind a user.
create or replace function course.lock_members(user_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_variable
begin
    perform
       from public.auth_user as portal_user
      where portal_user.id = any (user_ids)
        for no key update;

    perform
       from public.auth_userprofile as profile
      where profile.user_id = any (user_ids)
        for no key update;
end
$$;

alter function course.lock_members(bigint[]) owner to pysync_fan_out;
revoke all on function course.lock_members(bigint[]) from public;
comment on function course.lock_members(bigint[]) is 'Lock users and their profiles in id order.';
