create or replace function student.require_no_errors(subject text, errors json, hint text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    fields text[] := array(
        select error ->> 'field'
          from json_array_elements(errors) with ordinality as found (error, position)
         order by found.position);
begin
    if cardinality(fields) > 0 then
        raise exception using
            errcode = 'PY011',
            message = format('%s refused: %s error%s, in %s', subject, cardinality(fields),
                             case when cardinality(fields) > 1 then 's' end,
                             array_to_string(fields, ', ')),
            detail = errors::text,
            hint = hint;
    end if;
end
$$;

revoke all on function student.require_no_errors(text, json, text) from public;
comment on function student.require_no_errors(text, json, text) is
    'Fail with PY011 if there are errors, a JSON array of field and message; the error''s detail '
    'holds them.';
