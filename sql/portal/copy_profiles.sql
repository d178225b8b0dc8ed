create or replace function course.copy_profiles(user_ids bigint[], course_ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if row_security_active('public.auth_userprofile') then
        perform course.require_all_rows('public.auth_userprofile');
    end if;

    insert into course.auth_userprofile as copy (
        id, course_id, user_id, {profile_columns}
    )
    select profile.id, member.course_id, profile.user_id, {profile.profile_columns}
      from unnest(user_ids, course_ids) as member (user_id, course_id)
      join public.auth_userprofile as profile on profile.user_id = member.user_id
    on conflict (id, course_id) do update
       set (user_id, {profile_columns})
           = row(excluded.user_id, {excluded.profile_columns})
     where copy is distinct from excluded;
end
$$;

alter function course.copy_profiles(bigint[], text[]) owner to pysync_fan_out;
revoke all on function course.copy_profiles(bigint[], text[]) from public;
comment on function course.copy_profiles(bigint[], text[]) is
    'Bring or refresh the profile copies of (user, course) pairs; their users must be locked.';
