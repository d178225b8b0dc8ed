-- For views: one that named columns of auth_user would keep a site's own migrations from changing
-- their types.
create or replace function student.contact_of_user(
    user_id bigint, out username text, out email text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select portal_user.username, portal_user.email
  from public.auth_user as portal_user
 where portal_user.id = contact_of_user.user_id
$$;

revoke all on function student.contact_of_user(bigint) from public;
comment on function student.contact_of_user(bigint) is
    'Return the username and e-mail address of a user.';
