create or replace function student.change_name(email text, new_name text)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    changed_id bigint := student.user_id_by_email(email);
begin
    if new_name is null then
        raise exception using
            errcode = 'PY011',
            message = 'name ''NULL'' refused: a name is text',
            hint = 'Pass an empty text for no name.';
    end if;
    if length(new_name) > 255 then
        raise exception using
            errcode = 'PY011',
            message = format('name ''%s...'' refused: it has %s characters, 255 is the limit',
                             left(new_name, 40), length(new_name)),
            hint = 'Pass a shorter name.';
    end if;

    update public.auth_userprofile as profile
       set name = new_name
     where profile.user_id = changed_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('profile of user ''%s'' not found: no profile has this user_id',
                             changed_id),
            hint = 'Insert the profile into auth_userprofile first.';
    end if;
    return changed_id;
end
$$;

revoke all on function student.change_name(text, text) from public;
comment on function student.change_name(text, text) is
    'Change the name in the profile of the user with an e-mail address; return the user''s id.';
