create or replace function student.require_testcenter_user(username text, data json)
returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
    fields text;
    errors json;
begin
    select string_agg(error.field, ', '), json_agg(error)
      into fields, errors
      from student.testcenter_user_errors(data) as error;

    if fields is not null then
        raise exception using
            errcode = 'PY011',
            message = format('test-center user ''%s'' refused: %s errors, in %s',
                             username, json_array_length(errors), fields),
            detail = errors::text,
            hint = 'Correct the fields that student.testcenter_user_errors() lists.';
    end if;
end
$$;

revoke all on function student.require_testcenter_user(text, json) from public;
comment on function student.require_testcenter_user(text, json) is
    'Fail with PY011 if a test-center user''s data have errors; the error''s detail lists them as a '
    'JSON array of field and message.';
