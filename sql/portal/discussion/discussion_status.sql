create or replace function pysync.discussion_status()
returns table (
    enabled boolean,
    queued bigint,
    due bigint,
    delivering bigint,
    failing bigint,
    oldest_queued_at timestamptz
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select pysync.feature_is_on('discussion_service'),
               count(*),
               count(*) filter (where queue.next_attempt_at <= clock_timestamp()),
               count(*) filter (where queue.claimed_until > clock_timestamp()),
               count(*) filter (where queue.last_error is not null),
               min(queue.queued_at)
          from pysync.discussion_queue() as queue;
end
$$;

revoke all on function pysync.discussion_status() from public;
comment on function pysync.discussion_status() is
    'Return whether the discussion service is on, and how many users are queued, due now, being '
    'delivered, and failing.';
