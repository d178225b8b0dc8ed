create or replace function pysync.retry_deliveries(username text default null)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
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
    return pysync.retry_users(array(
        select queued.user_id
          from pysync.discussion_queue() as queued
         where queued.username = coalesce(retry_deliveries.username, queued.username)));
end
$$;

revoke all on function pysync.retry_deliveries(text) from public;
comment on function pysync.retry_deliveries(text) is
    'Make failed deliveries due now, of one user or of all; return how many.';
