-- Users are read with the caller's rights: their table may have code of its owner's.
create or replace function pysync.claim_deliveries(
    max_users integer,
    lease_seconds double precision,
    due_before timestamptz default 'infinity'
)
returns table (
    user_id bigint,
    username text,
    email text,
    version bigint,
    claimed_until timestamptz
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    user_ids bigint[];
    versions bigint[];
begin
    select array_agg(claim.user_id), array_agg(claim.version), max(claim.claimed_until)
      into user_ids, versions, claimed_until
      from pysync.claim_users(max_users, lease_seconds, due_before) as claim;
    -- A statement of its own sees what was committed up to now: a version never meets a state that
    -- is older than it. Whoever changes a user from now on is heard of by a later change.
    return query
        select claim.user_id, portal_user.username::text, portal_user.email::text, claim.version,
               claim_deliveries.claimed_until
          from unnest(user_ids, versions) with ordinality as claim (user_id, version, position)
          left join public.auth_user as portal_user on portal_user.id = claim.user_id
         order by claim.position;
end
$$;

revoke all on function pysync.claim_deliveries(integer, double precision, timestamptz) from public;
comment on function pysync.claim_deliveries(integer, double precision, timestamptz) is
    'Claim users whose state is due for the discussion service, and return that state; username is '
    'NULL for a user who is gone. Nobody else gets them before claimed_until, nor before '
    'pysync.settle_delivery. Commit at once: deliver outside the transaction.';
