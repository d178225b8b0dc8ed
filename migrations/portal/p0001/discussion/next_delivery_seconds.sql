create or replace function pysync.next_delivery_seconds()
returns double precision
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if not pysync.feature_is_on('discussion_service') then
        return null;
    end if;
    return (
        select extract(epoch from min(entry.next_attempt_at) - clock_timestamp())
          from pysync.discussion_outbox as entry
    );
end
$$;

alter function pysync.next_delivery_seconds() owner to pysync_owner;
revoke all on function pysync.next_delivery_seconds() from public;
comment on function pysync.next_delivery_seconds() is
    'Return in how many seconds the next delivery is due or a claim runs out; NULL if none.';
