-- TRUNCATE looks past its transaction's snapshot, the triggers that carry it don't: copies made
-- since the snapshot would be left behind.
create or replace function course.check_truncate()
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception using
            errcode = 'PY003',
            message = format('TRUNCATE refused at isolation level %s: copies made since the '
                             'transaction began would be left in courses',
                             pg_catalog.current_setting('transaction_isolation')),
            hint = 'Run it at READ COMMITTED.';
    end if;
end
$$;

alter function course.check_truncate() owner to pysync_fan_out;
revoke all on function course.check_truncate() from public;
comment on function course.check_truncate() is
    'Refuse TRUNCATE of a source table in a transaction with a fixed snapshot.';
