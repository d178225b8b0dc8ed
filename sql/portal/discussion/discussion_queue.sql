create or replace function pysync.discussion_queue()
returns table (
    user_id bigint,
    username text,
    queued_at timestamptz,
    attempts integer,
    next_attempt_at timestamptz,
    claimed_until timestamptz,
    last_error text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    -- A user who is gone is in the outbox until a pusher meets the entry, and in nobody's way.
    return query
        select queued.user_id, portal_user.username::text, queued.queued_at, queued.attempts,
               queued.next_attempt_at, queued.claimed_until, queued.last_error
          from pysync.queued_users() as queued
          join public.auth_user as portal_user on portal_user.id = queued.user_id;
end
$$;

revoke all on function pysync.discussion_queue() from public;
comment on function pysync.discussion_queue() is
    'Return the users whose state the discussion service hasn''t got yet, with the last error.';
