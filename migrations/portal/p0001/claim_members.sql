-- Serialize changes to what courses hold of these users, whoever makes them.
--
-- Their rows are locked, so an update of a user waits for us, or we for it. A transaction with a
-- fixed snapshot would still not see what we have done; so a row per user is written, which it writes,
-- too, and there fails with 40001. It is a row of ours: an application's triggers see nothing.
-- Index scans visit the ids in order: two bulk enrollments never wait for each other in a circle.
create or replace function course.claim_members(user_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_variable
begin
    perform
       from public.auth_user as portal_user
      where portal_user.id = any (user_ids)
        for no key update;

    perform course.touch_members(user_ids);
end
$$;

alter function course.claim_members(bigint[]) owner to pysync_fan_out;
revoke all on function course.claim_members(bigint[]) from public;
comment on function course.claim_members(bigint[]) is
    'Lock users, and write the rows that older snapshots fail at.';
