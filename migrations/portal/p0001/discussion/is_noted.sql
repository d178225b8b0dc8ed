-- Nobody waits here: what a pusher has in its hands doesn't count, and what counts none takes before
-- the caller's transaction is over. So the state that is delivered for it has the caller's change.
create or replace function pysync.is_noted(user_id bigint)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off  -- a plan made when there were few would read all for each
as $$
begin
    perform
       from pysync.discussion_change as change
      where change.user_id = is_noted.user_id
      limit 1
        for share skip locked;
    return found;
end
$$;

alter function pysync.is_noted(bigint) owner to pysync_fan_out;
revoke all on function pysync.is_noted(bigint) from public;
comment on function pysync.is_noted(bigint) is
    'Return whether a change of a user is noted for the discussion service, and keep it so.';
