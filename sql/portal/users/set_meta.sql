create or replace function student.set_meta(user_id bigint, meta jsonb)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if jsonb_typeof(meta) is distinct from 'object' then
        raise exception using
            errcode = 'PY011',
            message = format('meta of user ''%s'' refused: it must be a JSON object, not %s',
                             user_id, coalesce(jsonb_typeof(meta), 'NULL')),
            hint = 'Pass an object; {} for none.';
    end if;

    update public.auth_userprofile as profile
       set meta = set_meta.meta::text
     where profile.user_id = set_meta.user_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('profile of user ''%s'' not found: no profile has this user_id', user_id),
            hint = 'Insert the profile into auth_userprofile first.';
    end if;
end
$$;

revoke all on function student.set_meta(bigint, jsonb) from public;
comment on function student.set_meta(bigint, jsonb) is
    'Set the meta of a user''s profile to a JSON object.';
