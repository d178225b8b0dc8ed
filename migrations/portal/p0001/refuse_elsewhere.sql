-- A trigger function that runs as its owner is worth something to whoever can hang it on a table of
-- their own: casts, operators and domains of that table's types would run as the owner, too.
create or replace function course.refuse_elsewhere(trigger_name name, relation regclass)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'wrong_object_type',
        message = format('trigger ''%s'' on %s refused: its function works for a table of the '
                         'portal''s only', trigger_name, relation),
        hint = 'Drop the trigger.';
end
$$;

alter function course.refuse_elsewhere(name, regclass) owner to pysync_fan_out;
revoke all on function course.refuse_elsewhere(name, regclass) from public;
comment on function course.refuse_elsewhere(name, regclass) is
    'Refuse to run as a trigger of another table than the one that a trigger function is for.';
