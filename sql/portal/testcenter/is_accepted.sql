create or replace function student.is_accepted(registration public.student_testcenterregistration)
returns boolean
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
return (registration).upload_status = 'Accepted';

revoke all on function student.is_accepted(public.student_testcenterregistration) from public;
comment on function student.is_accepted(public.student_testcenterregistration) is
    'Tell whether the test center has accepted a registration.';
