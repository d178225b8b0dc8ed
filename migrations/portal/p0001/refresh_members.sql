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

    insert into course.auth_user as copy (id, course_id, live, password, last_login, is_superuser,
                                          username, first_name, last_name, email, is_staff,
                                          is_active, date_joined)
    select member.user_id, member.course_id, true, source.password, source.last_login,
           source.is_superuser, source.username, source.first_name, source.last_name, source.email,
           source.is_staff, source.is_active, source.date_joined
      from unnest(user_ids, course_ids) as member (user_id, course_id)
     cross join lateral (
         select portal_user.password::varchar as password,
                portal_user.last_login::timestamptz as last_login,
                portal_user.is_superuser::boolean as is_superuser,
                portal_user.username::varchar as username,
                portal_user.first_name::varchar as first_name,
                portal_user.last_name::varchar as last_name, portal_user.email::varchar as email,
                portal_user.is_staff::boolean as is_staff,
                portal_user.is_active::boolean as is_active,
                portal_user.date_joined::timestamptz as date_joined
           from public.auth_user as portal_user
          where portal_user.id = member.user_id
         offset 0) as source
    on conflict (id, course_id) do update
       set (live, password, last_login, is_superuser, username, first_name, last_name, email,
            is_staff, is_active, date_joined) = row(true, excluded.password, excluded.last_login,
                                                    excluded.is_superuser, excluded.username,
                                                    excluded.first_name, excluded.last_name,
                                                    excluded.email, excluded.is_staff,
                                                    excluded.is_active, excluded.date_joined)
     where copy.* is distinct from excluded.*;

    perform course.copy_profiles(user_ids, course_ids);
end
$$;

alter function course.refresh_members(bigint[], text[]) owner to pysync_fan_out;
revoke all on function course.refresh_members(bigint[], text[]) from public;
comment on function course.refresh_members(bigint[], text[]) is
    'Bring or refresh users and profiles of (user, course) pairs, which must be claimed.';
