create or replace function student.find_user(username text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    found_id bigint;
begin
    select portal_user.id
      into found_id
      from public.auth_user as portal_user
     where portal_user.username = find_user.username;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('user ''%s'' unknown: auth_user holds no such username', username),
            hint = 'Check the spelling; usernames are case-sensitive.';
    end if;
    return found_id;
end
$$;

revoke all on function student.find_user(text) from public;
comment on function student.find_user(text) is
    'Return the id of the user of this name, or fail with PY010.';
