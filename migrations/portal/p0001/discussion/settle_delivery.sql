create or replace function pysync.settle_delivery(
    user_id bigint,
    claimed_until timestamptz,
    version bigint,
    error text default null
)
returns timestamptz
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    due_at timestamptz;
begin
    -- A claim that has run out may be somebody else's by now: then nothing here is ours to change.
    if error is not null then
        update pysync.discussion_outbox as entry
           set attempts = entry.attempts + 1,
               last_error = left(error, 300),
               claimed_until = null,
               -- 1 s, 2 s, 4 s, up to 10 min, less up to half of it by chance: a service that comes back
               -- isn't met by all at once.
               next_attempt_at = clock_timestamp() + make_interval(
                   secs => least(600, 2 ^ least(entry.attempts, 20)) * (1 - random() / 2))
         where entry.user_id = settle_delivery.user_id
           and entry.claimed_until = settle_delivery.claimed_until
        returning entry.next_attempt_at into due_at;
        return due_at;
    end if;

    delete from pysync.discussion_outbox as entry
     where entry.user_id = settle_delivery.user_id
       and entry.claimed_until = settle_delivery.claimed_until
       and entry.version = settle_delivery.version;
    if not found then
        -- Changed again meanwhile: what was delivered isn't the newest state.
        update pysync.discussion_outbox as entry
           set attempts = 0,
               last_error = null,
               claimed_until = null,
               next_attempt_at = clock_timestamp()
         where entry.user_id = settle_delivery.user_id
           and entry.claimed_until = settle_delivery.claimed_until;
    end if;
    return null;
end
$$;

alter function pysync.settle_delivery(bigint, timestamptz, bigint, text) owner to pysync_owner;
revoke all on function pysync.settle_delivery(bigint, timestamptz, bigint, text) from public;
comment on function pysync.settle_delivery(bigint, timestamptz, bigint, text) is
    'End a claim: a delivered state leaves the outbox, a failed one is due again at the time returned.';
