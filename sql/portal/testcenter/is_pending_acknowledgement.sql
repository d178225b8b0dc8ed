create or replace function student.is_pending_acknowledgement(
    registration public.student_testcenterregistration
)
returns boolean
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
return (registration).upload_status = ''
   and not ((registration).accommodation_request <> ''
            and (registration).accommodation_code = '');

revoke all on function student.is_pending_acknowledgement(public.student_testcenterregistration)
    from public;
comment on function student.is_pending_acknowledgement(public.student_testcenterregistration) is
    'Tell whether a registration is complete and the test center hasn''t answered yet.';
