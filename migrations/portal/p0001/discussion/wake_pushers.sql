create or replace function pysync.wake_pushers()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Nobody's save is to fail over this; pushers find out when they look, every few seconds. A
    -- transaction that has notified can't be prepared. Nor could it commit while the queue is full,
    -- which a session that listens and stays in a transaction brings about, whatever its rights.
    if current_setting('max_prepared_transactions') = '0' and pg_notification_queue_usage() < 0.5 then
        perform pg_notify('pysync_discussion', '');
    end if;
end
$$;

alter function pysync.wake_pushers() owner to pysync_owner;
revoke all on function pysync.wake_pushers() from public;
comment on function pysync.wake_pushers() is
    'Wake whoever listens on channel pysync_discussion once this transaction is committed.';
grant execute on function pysync.wake_pushers() to pysync_fan_out;
