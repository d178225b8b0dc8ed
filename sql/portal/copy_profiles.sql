create or replace function course.copy_profiles(user_ids bigint[], course_ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    wrong tid[];
begin
    if row_security_active('public.auth_userprofile') then
        perform course.require_all_rows('public.auth_userprofile');
    end if;

    -- Deleted, or made anew, or given to somebody else.
    select array_agg(held.ctid)
      into wrong
      from unnest(user_ids, course_ids) as member (user_id, course_id)
     cross join lateral (
         select copy.id, copy.ctid
           from course.auth_userprofile as copy
          where copy.user_id = member.user_id
            and copy.course_id || '' = member.course_id
         offset 0) as held
     where (select profile.user_id
              from public.auth_userprofile as profile
             where profile.id = held.id) is distinct from member.user_id;
    if wrong is not null then
        perform course.delete_profiles(wrong);
    end if;

    -- Under this id there may be a frozen copy of somebody who had the profile before.
    insert into course.auth_userprofile as copy (id, course_id, user_id, {profile_columns})
    select source.id, member.course_id, source.user_id, {source.profile_columns}
      from unnest(user_ids, course_ids) as member (user_id, course_id)
     cross join lateral (
         select profile.id, profile.user_id, {profile.profile_columns as declared}
           from public.auth_userprofile as profile
          where profile.user_id = member.user_id
         offset 0) as source
    on conflict (id, course_id) do update
       set (user_id, {profile_columns}) = row(excluded.user_id, {excluded.profile_columns})
     where copy.* is distinct from excluded.*;
end
$$;

alter function course.copy_profiles(bigint[], text[]) owner to pysync_fan_out;
revoke all on function course.copy_profiles(bigint[], text[]) from public;
comment on function course.copy_profiles(bigint[], text[]) is
    'Bring, refresh or remove the profile copies of (user, course) pairs, which must be claimed.';
