create or replace function student.require_upload_status(
    subject text, upload_status text, upload_error_message text
)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if upload_status is null or upload_status not in ('', 'Error', 'Accepted') then
        raise exception using
            errcode = 'PY011',
            message = format('upload status %s of %s refused: not one of Accepted, Error and '''' '
                             '(not answered)', quote_nullable(upload_status), subject),
            hint = 'Pass one of these.';
    end if;
    if length(upload_error_message) > 512 then
        raise exception using
            errcode = 'PY011',
            message = format('upload error message of %s refused: at most 512 characters, it has '
                             '%s', subject, length(upload_error_message)),
            hint = 'Shorten it.';
    end if;
end
$$;

revoke all on function student.require_upload_status(text, text, text) from public;
comment on function student.require_upload_status(text, text, text) is
    'Fail with PY011 if a test center''s answer isn''t one that the tables take.';
