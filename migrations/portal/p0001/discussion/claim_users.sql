create or replace function pysync.claim_users(
    max_users integer,
    lease_seconds double precision,
    due_before timestamptz default 'infinity'
)
returns table (
    user_id bigint,
    version bigint,
    claimed_until timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    this_moment timestamptz;
    user_ids bigint[];
begin
    if not pysync.feature_is_on('discussion_service') then
        return;
    end if;

    if not (select portal_status.claimed from pysync.portal_status) then
        raise exception using
            errcode = 'PY009',
            message = 'portal is a copy, or was moved: it may not push for the original',
            hint = 'Run "pysync portal claim" to see what the choices are.';
    end if;

    -- Changes become entries, one per user. Locks are always taken in the order of users, and those
    -- who claim wait for nobody, so pushers never deadlock.
    with first as materialized (
        select change.id
          from pysync.discussion_change as change
         order by change.id
         limit 1000
           for update skip locked
    ), taken as (
        delete from pysync.discussion_change as change
         using first
         where change.id = first.id
        returning change.user_id, change.changed_at
    )
    insert into pysync.discussion_outbox as entry (user_id, queued_at, next_attempt_at)
    select taken.user_id, min(taken.changed_at), min(taken.changed_at)
      from taken
     group by taken.user_id
     order by taken.user_id
    on conflict on constraint discussion_outbox_pkey do update
       set version = entry.version + 1,
           -- A new state may be what a failing entry was waiting for.
           next_attempt_at = case
               when entry.claimed_until > clock_timestamp() then entry.next_attempt_at
               else least(entry.next_attempt_at, excluded.next_attempt_at)
           end;

    this_moment := clock_timestamp();
    with due as materialized (
        select entry.user_id
          from pysync.discussion_outbox as entry
         where entry.next_attempt_at <= least(this_moment, due_before)
         order by entry.next_attempt_at
         limit max_users
           for update skip locked
    ), claimed as (
        update pysync.discussion_outbox as entry
           set claimed_until = this_moment + make_interval(secs => lease_seconds),
               next_attempt_at = this_moment + make_interval(secs => lease_seconds)
          from due
         where entry.user_id = due.user_id
        returning entry.user_id
    )
    select array_agg(claimed.user_id) into user_ids from claimed;

    return query
        select entry.user_id, entry.version, entry.claimed_until
          from pysync.discussion_outbox as entry
         where entry.user_id = any (user_ids)
         order by entry.queued_at;
end
$$;

alter function pysync.claim_users(integer, double precision, timestamptz) owner to pysync_owner;
revoke all on function pysync.claim_users(integer, double precision, timestamptz) from public;
comment on function pysync.claim_users(integer, double precision, timestamptz) is
    'Claim users whose state is due for the discussion service: see pysync.claim_deliveries.';
