create or replace function student.user_info(email_address text)
returns table (
    user_id bigint,
    username text,
    email text,
    name text,
    location text,
    language text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    found_id bigint := student.user_id_by_email(email_address);
begin
    return query
        select portal_user.id::bigint, portal_user.username::text, portal_user.email::text,
               profile.name::text, profile.location::text, profile.language::text
          from public.auth_user as portal_user
          join public.auth_userprofile as profile on profile.user_id = portal_user.id
         where portal_user.id = found_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('profile of user ''%s'' not found: no profile has this user_id',
                             found_id),
            hint = 'Insert the profile into auth_userprofile first.';
    end if;
end
$$;

revoke all on function student.user_info(text) from public;
comment on function student.user_info(text) is
    'Return a user and the user''s profile by e-mail address: id, username, e-mail, name, location, '
    'language.';
