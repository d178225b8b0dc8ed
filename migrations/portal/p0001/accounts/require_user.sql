create or replace function student.require_user(user_id bigint)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if not exists (
        select from public.auth_user as portal_user where portal_user.id = require_user.user_id)
    then
        raise exception using
            errcode = 'PY010',
            message = format('user ''%s'' unknown: auth_user holds no such id', user_id),
            hint = 'Insert the user first.';
    end if;
end
$$;

revoke all on function student.require_user(bigint) from public;
comment on function student.require_user(bigint) is
    'Fail with PY010 if there is no user of this id.';
