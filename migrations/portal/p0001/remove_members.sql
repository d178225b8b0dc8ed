-- Unenroll: the enrollment goes, the user's copy stays and is frozen from now on, with its profile as
-- this transaction has left it.
create or replace function course.remove_members(user_ids bigint[], course_ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    enrollments tid[];
    users tid[];
begin
    perform course.carry_profiles();

    select array_agg(held.enrollment), array_agg(held.member)
      into enrollments, users
      from unnest(user_ids, course_ids) as member (user_id, course_id)
     cross join lateral (
         select (select copy.ctid
                   from course.student_courseenrollment as copy
                  where copy.user_id = member.user_id
                    and copy.course_id || '' = member.course_id) as enrollment,
                (select copy.ctid
                   from course.auth_user as copy
                  where copy.id = member.user_id
                    and copy.course_id || '' = member.course_id) as member
         offset 0) as held;
    perform course.freeze_members(enrollments, users);
end
$$;

alter function course.remove_members(bigint[], text[]) owner to pysync_fan_out;
revoke all on function course.remove_members(bigint[], text[]) from public;
comment on function course.remove_members(bigint[], text[]) is
    'Remove the enrollments of (user, course) pairs and freeze their users, who must be claimed.';
