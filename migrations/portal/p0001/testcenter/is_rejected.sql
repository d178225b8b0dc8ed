create or replace function student.is_rejected(registration public.student_testcenterregistration)
returns boolean
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
return (registration).upload_status = 'Error';

revoke all on function student.is_rejected(public.student_testcenterregistration) from public;
comment on function student.is_rejected(public.student_testcenterregistration) is
    'Tell whether the test center has rejected a registration.';
