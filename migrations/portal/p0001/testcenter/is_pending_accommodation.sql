create or replace function student.is_pending_accommodation(
    registration public.student_testcenterregistration
)
returns boolean
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
return (registration).accommodation_request <> '' and (registration).accommodation_code = '';

revoke all on function student.is_pending_accommodation(public.student_testcenterregistration)
    from public;
comment on function student.is_pending_accommodation(public.student_testcenterregistration) is
    'Tell whether an accommodation was requested for which there is no code yet, whatever the test '
    'center has said.';
