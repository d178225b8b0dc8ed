create or replace function pysync.queue_all_users()
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    queued bigint;
begin
    if not pysync.feature_is_on('discussion_service') then
        raise exception using
            errcode = 'PY011',
            message = 'setting ''discussion_service'' off: nothing is queued',
            hint = 'Run "pysync discussion enable" first.';
    end if;

    insert into pysync.discussion_change (user_id)
    select portal_user.id
      from public.auth_user as portal_user
     order by portal_user.id;
    get diagnostics queued = row_count;
    perform pysync.wake_pushers();
    return queued;
end
$$;

alter function pysync.queue_all_users() owner to pysync_owner;
revoke all on function pysync.queue_all_users() from public;
comment on function pysync.queue_all_users() is
    'Queue every user for the discussion service, as after it lost its data; return how many.';
