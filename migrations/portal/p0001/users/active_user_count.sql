create or replace function student.active_user_count()
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select count(*)
      from public.auth_user
     where is_active;
$$;

revoke all on function student.active_user_count() from public;
comment on function student.active_user_count() is 'Return how many users are active.';
