create or replace function pysync.wake_pushers()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A transaction that has notified can't be prepared, and nobody's save is to fail over this:
    -- where transactions may be prepared, pushers find out when they look, every few seconds.
    if current_setting('max_prepared_transactions') = '0' then
        perform pg_notify('pysync_discussion', '');
    end if;
end
$$;

alter function pysync.wake_pushers() owner to pysync_owner;
revoke all on function pysync.wake_pushers() from public;
comment on function pysync.wake_pushers() is
    'Wake whoever listens on channel pysync_discussion once this transaction is committed.';
