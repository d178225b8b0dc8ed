create or replace function pysync.retry_deliveries(username text default null)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    retried bigint;
begin
    if username is not null and not exists (
        select
          from public.auth_user as portal_user
         where portal_user.username = retry_deliveries.username
    ) then
        raise exception using
            errcode = 'PY010',
            message = format('user ''%s'' not found: no user has this username', username),
            hint = 'Run "pysync discussion status" for the users that are queued.';
    end if;

    -- In the order of users, as pushers lock them.
    with failed as materialized (
        select entry.user_id
          from pysync.discussion_outbox as entry
          join public.auth_user as portal_user on portal_user.id = entry.user_id
         where portal_user.username = coalesce(retry_deliveries.username, portal_user.username)
           and entry.last_error is not null
           and entry.claimed_until is null
         order by entry.user_id
           for update of entry
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

alter function pysync.retry_deliveries(text) owner to pysync_owner;
revoke all on function pysync.retry_deliveries(text) from public;
comment on function pysync.retry_deliveries(text) is
    'Make failed deliveries due now, of one user or of all; return how many.';
