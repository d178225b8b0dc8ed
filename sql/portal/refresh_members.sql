-- Users some of whom courses have, from before they left, or whose names frozen copies hold.
create or replace function course.refresh_members(user_ids bigint[], course_ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
begin
    perform course.require_members(user_ids);
    perform course.make_way(user_ids, course_ids);

    insert into course.auth_user as copy (id, course_id, live, {user_columns})
    select member.user_id, member.course_id, true, {source.user_columns}
      from unnest(user_ids, course_ids) as member (user_id, course_id)
     cross join lateral (
         select {portal_user.user_columns as declared}
           from public.auth_user as portal_user
          where portal_user.id = member.user_id
         offset 0) as source
    on conflict (id, course_id) do update
       set (live, {user_columns}) = row(true, {excluded.user_columns})
     where copy.* is distinct from excluded.*;

    perform course.copy_profiles(user_ids, course_ids);
end
$$;

alter function course.refresh_members(bigint[], text[]) owner to pysync_fan_out;
revoke all on function course.refresh_members(bigint[], text[]) from public;
comment on function course.refresh_members(bigint[], text[]) is
    'Bring or refresh users and profiles of (user, course) pairs, which must be claimed.';
