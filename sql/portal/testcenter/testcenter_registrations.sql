create or replace function student.testcenter_registrations(
    user_id bigint, course_id text, exam_series_code text default null
)
returns setof student.testcenter_registration
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select registration.*
      from student.testcenter_registration as registration
     where registration.user_id = testcenter_registrations.user_id
       and registration.course_id = testcenter_registrations.course_id
       and (testcenter_registrations.exam_series_code is null
            or registration.exam_series_code = testcenter_registrations.exam_series_code)
     order by registration.id
$$;

revoke all on function student.testcenter_registrations(bigint, text, text) from public;
comment on function student.testcenter_registrations(bigint, text, text) is
    'Return a user''s registrations for a course, of one exam series or of all; none for a user who '
    'is no test-center user.';
