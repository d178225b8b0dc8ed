create or replace function student.require_testcenter_user(username text, data json)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    perform student.require_no_errors(
        format('test-center user ''%s''', username),
        (select json_agg(error) from student.testcenter_user_errors(data) as error),
        'Correct the fields that student.testcenter_user_errors() lists.');
end
$$;

revoke all on function student.require_testcenter_user(text, json) from public;
comment on function student.require_testcenter_user(text, json) is
    'Fail with PY011 if a test-center user''s data have errors.';
