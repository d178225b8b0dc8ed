create or replace function pysync.retry_users(user_ids bigint[])
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    retried bigint;
begin
    -- In the order of users, as pushers lock them.
    with failed as materialized (
        select entry.user_id
          from pysync.discussion_outbox as entry
         where entry.user_id = any (user_ids)
           and entry.last_error is not null
           and entry.claimed_until is null
         order by entry.user_id
           for update
    )
    update pysync.discussion_outbox as entry
       set next_attempt_at = least(entry.next_attempt_at, clock_timestamp())
      from failed
     where entry.user_id = failed.user_id;
    get diagnostics retried = row_count;
    perform pysync.wake_pushers();
    return retried;
end
$$;

alter function pysync.retry_users(bigint[]) owner to pysync_owner;
revoke all on function pysync.retry_users(bigint[]) from public;
comment on function pysync.retry_users(bigint[]) is
    'Make failed deliveries of users due now; return how many.';
