-- What the source tables say a course should hold, against what the fan-out has for it. Triggers keep
-- the two equal in every transaction, so they are equal in every snapshot, and this is one statement.
--
-- Of a frozen copy whose user is still there the sources only say that it isn't live: its columns
-- are as they were when the user left. Rows are compared as they are stored, whatever a source's
-- collation takes for equal.
--
-- Joins go to tables, which have indexes, never to a list made before: right after a load nobody has
-- counted the rows, and each would be compared with each.
create or replace function pysync.fan_out_differences(course_id text)
returns table (
    table_name text, id bigint, kind text, columns text[], user_ids bigint[], expected jsonb,
    found jsonb)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set row_security = on
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
    perform course.require_all_rows(source.relation)
       from unnest(array[{'source_tables'}]::regclass[]) as source (relation);

    return query
    with member as not materialized (
        select enrollment.id::bigint as id, enrollment.course_id::varchar as course_id,
               enrollment.user_id::bigint as user_id,
               {enrollment.enrollment_columns as declared}
          from public.student_courseenrollment as enrollment
         where enrollment.course_id = fan_out_differences.course_id{enrollment.counts}
    ),
    user_copy as not materialized (
        select copy.id, copy.course_id, copy.live, {copy.user_columns if there}
          from course.auth_user as copy
         where copy.course_id = fan_out_differences.course_id
    ),
    expected_user as (
        select portal_user.id::bigint as id, member.course_id, true as live,
               {portal_user.user_columns as declared}
          from member
          join public.auth_user as portal_user on portal_user.id = member.user_id
         union all
        select copy.id, copy.course_id, false as live, {copy.user_columns}
          from user_copy as copy
          join public.auth_user as portal_user on portal_user.id = copy.id
         where not exists (
             select
               from public.student_courseenrollment as enrollment
              where enrollment.user_id = copy.id
                and enrollment.course_id = fan_out_differences.course_id{enrollment.counts})
         union all
        -- As course.scrub_members() and course.free_username() leave it.
        select copy.id, copy.course_id, false as live, {scrubbed.user_columns}
          from user_copy as copy
         cross join lateral (
             select case
                        when copy.username like 'deleted-' || copy.id || '~' || copy.id || '%'
                        then copy.username
                        else ('deleted-' || copy.id)::varchar
                    end as username,
                    {scrubbed_user_values as declared}, {copy.kept_user_columns}
         ) as scrubbed
         where not exists (
             select from public.auth_user as portal_user where portal_user.id = copy.id)
    ),
    expected_profile as (
        select profile.id::bigint as id, member.course_id, profile.user_id::bigint as user_id,
               {profile.profile_columns as declared}
          from member
          join public.auth_userprofile as profile on profile.user_id = member.user_id
    ),
    -- All but the frozen ones.
    profile_copy as (
        select copy.id, copy.course_id, copy.user_id, {copy.profile_columns if there}
          from course.auth_userprofile as copy
         where copy.course_id = fan_out_differences.course_id
           and (exists (
                    select
                      from public.student_courseenrollment as enrollment
                     where enrollment.user_id = copy.user_id
                       and enrollment.course_id = fan_out_differences.course_id{enrollment.counts})
                or not exists (
                    select from public.auth_user as portal_user where portal_user.id = copy.user_id)
                or not exists (
                    select
                      from course.auth_user as user_copy
                     where user_copy.id = copy.user_id
                       and user_copy.course_id = fan_out_differences.course_id)
                or exists (
                    select
                      from public.auth_userprofile as profile
                      join public.student_courseenrollment as enrollment
                           on enrollment.user_id = profile.user_id
                     where profile.id = copy.id
                       and enrollment.course_id = fan_out_differences.course_id{enrollment.counts}))
    ),
    enrollment_copy as (
        select copy.id, copy.course_id, copy.user_id, {copy.enrollment_columns if there}
          from course.student_courseenrollment as copy
         where copy.course_id = fan_out_differences.course_id
    ),
    difference as (
        select 'auth_user' as table_name, right_row.id as expected_id, copy.id as found_id,
               right_row.id as expected_user, copy.id as found_user,
               to_jsonb(right_row.*) as expected, to_jsonb(copy.*) as found
          from expected_user as right_row
          full join user_copy as copy on copy.id = right_row.id
         where right_row.id is null or copy.id is null or right_row.* *<> copy.*
         union all
        select 'auth_userprofile' as table_name, right_row.id as expected_id, copy.id as found_id,
               right_row.user_id as expected_user, copy.user_id as found_user,
               to_jsonb(right_row.*) as expected, to_jsonb(copy.*) as found
          from expected_profile as right_row
          full join profile_copy as copy on copy.id = right_row.id
         where right_row.id is null or copy.id is null or right_row.* *<> copy.*
         union all
        select 'student_courseenrollment' as table_name, right_row.id as expected_id,
               copy.id as found_id, right_row.user_id as expected_user,
               copy.user_id as found_user, to_jsonb(right_row.*) as expected, to_jsonb(copy.*) as found
          from member as right_row
          full join enrollment_copy as copy on copy.id = right_row.id
         where right_row.id is null or copy.id is null or right_row.* *<> copy.*
    )
    select difference.table_name,
           coalesce(difference.expected_id, difference.found_id),
           case
               when difference.found_id is null then 'missing'
               when difference.expected_id is null then 'extra'
               else 'differs'
           end,
           array(
               select ours.key
                 from jsonb_each(difference.expected) as ours
                 join jsonb_each(difference.found) as theirs on theirs.key = ours.key
                where theirs.value <> ours.value
                  and difference.expected_id = difference.found_id
                order by ours.key
           ),
           array_remove(array[
               difference.expected_user, nullif(difference.found_user, difference.expected_user)
           ], null),
           case when difference.expected_id is not null then difference.expected end,
           case when difference.found_id is not null then difference.found end
      from difference;
end
$$;

revoke all on function pysync.fan_out_differences(text) from public;
grant execute on function pysync.fan_out_differences(text) to pysync_fan_out;
comment on function pysync.fan_out_differences(text) is
    'Return where a course''s fan-out rows differ from what the portal''s source tables say.';
