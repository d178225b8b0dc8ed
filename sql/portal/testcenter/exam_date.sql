create or replace function student.exam_date(value text)
returns date
language plpgsql
immutable
strict
set search_path = pg_catalog, pg_temp
as $$
begin
    if value ~ '^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}$' then
        return make_date(
            split_part(value, '-', 1)::integer,
            split_part(value, '-', 2)::integer,
            split_part(value, '-', 3)::integer);
    end if;
    return null;
exception
    when datetime_field_overflow then
        return null;
end
$$;

revoke all on function student.exam_date(text) from public;
comment on function student.exam_date(text) is
    'Return the date that a text YYYY-MM-DD says, or null if it says none.';
