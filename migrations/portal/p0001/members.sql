create or replace function course.members(course_id text)
returns table (enrollment_id bigint, user_id bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
    select enrollment.id::bigint, enrollment.user_id::bigint
      from public.student_courseenrollment as enrollment
     where enrollment.course_id = members.course_id
$$;

alter function course.members(text) owner to pysync_fan_out;
revoke all on function course.members(text) from public;
comment on function course.members(text) is
    'Return the enrollments that count in a course, registered or not, and whose they are.';
