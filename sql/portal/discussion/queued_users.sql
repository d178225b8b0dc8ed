create or replace function pysync.queued_users()
returns table (
    user_id bigint,
    queued_at timestamptz,
    attempts integer,
    next_attempt_at timestamptz,
    claimed_until timestamptz,
    last_error text
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select queued.user_id, queued.queued_at, coalesce(entry.attempts, 0),
           coalesce(entry.next_attempt_at, queued.queued_at), entry.claimed_until, entry.last_error
      from (
          select noted.user_id, min(noted.queued_at) as queued_at
            from (
                select outbox.user_id, outbox.queued_at
                  from pysync.discussion_outbox as outbox
                 union all
                select change.user_id, change.changed_at
                  from pysync.discussion_change as change
            ) as noted
           group by noted.user_id
      ) as queued
      left join pysync.discussion_outbox as entry on entry.user_id = queued.user_id;
$$;

alter function pysync.queued_users() owner to pysync_owner;
revoke all on function pysync.queued_users() from public;
comment on function pysync.queued_users() is
    'Return whose state the discussion service hasn''t got yet: see pysync.discussion_queue.';
