create or replace function pysync.queue_all_users()
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    return pysync.queue_users(
        array(select portal_user.id from public.auth_user as portal_user order by portal_user.id));
end
$$;

revoke all on function pysync.queue_all_users() from public;
comment on function pysync.queue_all_users() is
    'Queue every user for the discussion service, as after it lost its data; return how many.';
