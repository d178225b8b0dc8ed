-- What row security hides isn't missing: a change of it must not get lost, nor be called that of a
-- user who doesn't exist.
create or replace function course.require_all_rows(relation regclass)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    policy name;
begin
    select hiding.policy into policy from pysync.hiding_policies(relation) as hiding;
    if found then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('row security of %s%s hides rows from role ''pysync_fan_out'': courses '
                             'would miss this change', relation, ', policy ' || quote_ident(policy)),
            hint = 'Run "pysync doctor": it names the statement that shows them.';
    end if;
end
$$;

alter function course.require_all_rows(regclass) owner to pysync_fan_out;
revoke all on function course.require_all_rows(regclass) from public;
comment on function course.require_all_rows(regclass) is
    'Refuse to go on where row security hides rows of a table from the triggers.';
