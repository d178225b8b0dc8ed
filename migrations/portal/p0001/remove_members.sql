-- Unenroll: the enrollment goes, the user's copy stays and is frozen from now on.
create or replace function course.remove_members(user_ids bigint[], course_ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from course.student_courseenrollment as copy
     using unnest(user_ids, course_ids) as member (user_id, course_id)
     where copy.user_id = member.user_id
       and copy.course_id = member.course_id;

    update course.auth_user as copy
       set live = false
      from unnest(user_ids, course_ids) as member (user_id, course_id)
     where copy.id = member.user_id
       and copy.course_id = member.course_id;
end
$$;

alter function course.remove_members(bigint[], text[]) owner to pysync_fan_out;
revoke all on function course.remove_members(bigint[], text[]) from public;
comment on function course.remove_members(bigint[], text[]) is
    'Remove the enrollments of (user, course) pairs and freeze their users; they must be locked.';
