create or replace function student.get_meta(user_id bigint)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    stored text;
    meta jsonb;
begin
    select profile.meta into stored
      from public.auth_userprofile as profile
     where profile.user_id = get_meta.user_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('profile of user ''%s'' not found: no profile has this user_id', user_id),
            hint = 'Insert the profile into auth_userprofile first.';
    end if;
    if coalesce(stored, '') = '' then
        return '{}';
    end if;

    begin
        meta := stored::jsonb;
    exception
        when data_exception or program_limit_exceeded then
            null;  -- what it holds is the user's business, not a log's
    end;
    if jsonb_typeof(meta) is distinct from 'object' then
        raise exception using
            errcode = 'PY011',
            message = format('meta of user ''%s'' unreadable: it isn''t a JSON object', user_id),
            hint = 'Correct auth_userprofile.meta, or replace it with student.set_meta.';
    end if;
    return meta;
end
$$;

revoke all on function student.get_meta(bigint) from public;
comment on function student.get_meta(bigint) is
    'Return the meta of a user''s profile as a JSON object; {} where the text is empty.';
