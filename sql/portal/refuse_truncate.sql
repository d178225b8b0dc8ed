create or replace function course.refuse_truncate()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'PY003',
        message = format('TRUNCATE of %I.%I refused: row filters don''t apply to it, '
                         'so no course would be told', tg_table_schema, tg_table_name),
        hint = 'Change the portal''s own tables; these follow them.';
end
$$;

revoke all on function course.refuse_truncate() from public;
comment on function course.refuse_truncate() is 'Refuse TRUNCATE of a fan-out table.';

do $$
declare
    fan_out_table regclass;
begin
    foreach fan_out_table in array array[
        {'published_tables'}
    ]::regclass[]
    loop
        execute format(
            'create or replace trigger pysync_refuse_truncate before truncate on %s '
            'for each statement execute function course.refuse_truncate()',
            fan_out_table);
    end loop;
end
$$;
