-- A transaction with a fixed snapshot that is older than a course's registration or removal can't
-- know of it: its enrollments would be missed. Registering writes this row, so such a transaction
-- fails here with 40001 and is run again. READ COMMITTED sees the registry as it is and pays nothing.
create or replace function course.check_registry()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform from pysync.registry_change where singleton for share;
    end if;
end
$$;

alter function course.check_registry() owner to pysync_fan_out;
revoke all on function course.check_registry() from public;
comment on function course.check_registry() is
    'Fail with 40001 if this transaction''s snapshot is older than the last change of the registry.';
