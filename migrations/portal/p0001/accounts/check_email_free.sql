create or replace function student.check_email_free(email text, user_id bigint)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if exists (
        select
          from public.auth_user as portal_user
         where lower(portal_user.email) = lower(check_email_free.email)
           and portal_user.id <> check_email_free.user_id)
    then
        raise exception using
            errcode = 'PY012',
            message = format('e-mail address ''%s'' in use: another user has it', email),
            hint = 'Choose another address.';
    end if;
end
$$;

revoke all on function student.check_email_free(text, bigint) from public;
comment on function student.check_email_free(text, bigint) is
    'Fail with PY012 if another user has this e-mail address, in whatever case of letters.';
