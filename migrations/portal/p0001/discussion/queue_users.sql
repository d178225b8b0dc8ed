create or replace function pysync.queue_users(user_ids bigint[])
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if not pysync.feature_is_on('discussion_service') then
        raise exception using
            errcode = 'PY011',
            message = 'setting ''discussion_service'' off: nothing is queued',
            hint = 'Run "pysync discussion enable" first.';
    end if;
    with noted as materialized (
        select change.user_id
          from pysync.discussion_change as change
         where change.user_id = any (user_ids)
           for share skip locked
    )
    insert into pysync.discussion_change (user_id)
    select wanted.user_id
      from unnest(user_ids) as wanted (user_id)
     where wanted.user_id not in (select noted.user_id from noted);
    perform pysync.wake_pushers();
    return cardinality(user_ids);
end
$$;

alter function pysync.queue_users(bigint[]) owner to pysync_owner;
revoke all on function pysync.queue_users(bigint[]) from public;
comment on function pysync.queue_users(bigint[]) is
    'Queue users for the discussion service; return how many.';
