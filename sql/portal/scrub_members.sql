-- Erase users who are gone from the portal, in every course. The row itself stays: tables of the
-- course may point at it.
--
-- The name is what course.scrubbed_username() returns: asked here, in a plan for all rows, since that
-- function makes one for each.
create or replace function course.scrub_members(user_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
begin
    delete from pysync.member_change as change
     where change.user_id = any (user_ids);

    delete from course.student_courseenrollment as copy
     where copy.user_id = any (user_ids);

    delete from course.auth_userprofile as copy
     where copy.user_id = any (user_ids);

    update course.auth_user as copy
       set (live, username, {scrubbed_user_columns})
           = row(false,
                 case
                     when exists (
                         select
                           from course.auth_user as other
                          where other.course_id = copy.course_id
                            and other.username = 'deleted-' || copy.id
                            and other.id <> copy.id)
                     then course.free_username(copy.course_id, 'deleted-' || copy.id, copy.id)
                     else 'deleted-' || copy.id
                 end,
                 {scrubbed_user_values})
     where copy.id = any (user_ids);
end
$$;

alter function course.scrub_members(bigint[]) owner to pysync_fan_out;
revoke all on function course.scrub_members(bigint[]) from public;
comment on function course.scrub_members(bigint[]) is
    'Remove profiles and enrollments of deleted users from every course and scrub their user rows.';
