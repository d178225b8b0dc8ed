create or replace function student.activate(activation_key text)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    found_id bigint;
begin
    select registration.user_id
      into found_id
      from public.auth_registration as registration
     where registration.activation_key = activate.activation_key;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('activation key ''%s'' unknown: no user is registered with it',
                             left(activation_key, 32)),
            hint = 'Check that the key was copied as a whole.';
    end if;

    update public.auth_user as portal_user
       set is_active = true
     where portal_user.id = found_id
       and not portal_user.is_active;
    return found_id;
end
$$;

revoke all on function student.activate(text) from public;
comment on function student.activate(text) is
    'Activate the account that an activation key belongs to and return the user''s id; '
    'once more is no error.';
