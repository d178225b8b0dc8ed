create or replace function student.user_count()
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select count(*)
      from public.auth_user;
$$;

revoke all on function student.user_count() from public;
comment on function student.user_count() is 'Return how many users there are.';
