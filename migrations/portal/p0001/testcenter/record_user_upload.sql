create or replace function student.record_user_upload(
    client_candidate_id text,
    upload_status text,
    upload_error_message text default '',
    uploaded_at timestamp with time zone default now(),
    candidate_id integer default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    perform student.require_upload_status(
        format('test-center user ''%s''', client_candidate_id), upload_status,
        upload_error_message);

    update public.student_testcenteruser as person
       set upload_status = record_user_upload.upload_status,
           upload_error_message = coalesce(record_user_upload.upload_error_message, ''),
           uploaded_at = record_user_upload.uploaded_at,
           candidate_id = coalesce(record_user_upload.candidate_id, person.candidate_id)
     where person.client_candidate_id = record_user_upload.client_candidate_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('test-center user ''%s'' doesn''t exist', client_candidate_id),
            hint = 'Pass a client_candidate_id of student_testcenteruser.';
    end if;
end
$$;

revoke all on function
    student.record_user_upload(text, text, text, timestamp with time zone, integer) from public;
comment on function
    student.record_user_upload(text, text, text, timestamp with time zone, integer) is
    'Record what the test center says of a user: Accepted or Error, and the candidate id it gave. '
    'user_updated_at stays: nobody changed their data.';
