create or replace function student.register(user_id bigint)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    fresh_key text := student.new_key();
begin
    perform student.require_user(register.user_id);

    insert into public.auth_registration (user_id, activation_key)
    values (register.user_id, fresh_key)
    on conflict (user_id) do nothing;
    if not found then
        raise exception using
            errcode = 'PY012',
            message = format('user ''%s'' registered already: there is one activation key per user',
                             register.user_id),
            hint = 'Send the key that auth_registration holds once more.';
    end if;
    return fresh_key;
end
$$;

revoke all on function student.register(bigint) from public;
comment on function student.register(bigint) is
    'Give a user an activation key and return it; the account itself isn''t changed.';
