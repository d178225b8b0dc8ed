create or replace function student.require_json_object(data json)
returns void
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if data is null or json_typeof(data) <> 'object' then
        raise exception using
            errcode = 'PY011',
            message = format('data ''%s'' refused: not a JSON object', left(data::text, 40)),
            hint = 'Pass an object with a value per field.';
    end if;
end
$$;

revoke all on function student.require_json_object(json) from public;
comment on function student.require_json_object(json) is
    'Fail with PY011 unless this is a JSON object.';
