create or replace function student.record_registration_upload(
    client_authorization_id text,
    upload_status text,
    upload_error_message text default '',
    uploaded_at timestamp with time zone default now()
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    perform student.require_upload_status(
        format('registration ''%s''', client_authorization_id), upload_status,
        upload_error_message);

    update public.student_testcenterregistration as registration
       set upload_status = record_registration_upload.upload_status,
           upload_error_message = coalesce(record_registration_upload.upload_error_message, ''),
           uploaded_at = record_registration_upload.uploaded_at
     where registration.client_authorization_id =
           record_registration_upload.client_authorization_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('registration ''%s'' doesn''t exist', client_authorization_id),
            hint = 'Pass a client_authorization_id of student_testcenterregistration.';
    end if;
end
$$;

revoke all on function
    student.record_registration_upload(text, text, text, timestamp with time zone) from public;
comment on function
    student.record_registration_upload(text, text, text, timestamp with time zone) is
    'Record what the test center says of a registration: Accepted or Error. user_updated_at stays: '
    'nobody changed their data.';
