create or replace function student.user_id_by_email(email text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    user_ids bigint[];
begin
    -- Two are enough to know that it isn't one.
    select array_agg(found.id) into user_ids
      from (
          select portal_user.id
            from public.auth_user as portal_user
           where portal_user.email = user_id_by_email.email
           limit 2
      ) as found;

    if user_ids is null then
        raise exception using
            errcode = 'PY010',
            message = format('e-mail ''%s'' not found: no user has it', email),
            hint = 'Look for it in auth_user; upper and lower case count.';
    end if;
    if cardinality(user_ids) > 1 then
        raise exception using
            errcode = 'PY011',
            message = format('e-mail ''%s'' ambiguous: several users have it', email),
            hint = 'Name the user by id or username in SQL, or give all but one another address.';
    end if;
    return user_ids[1];
end
$$;

revoke all on function student.user_id_by_email(text) from public;
comment on function student.user_id_by_email(text) is
    'Return the id of the only user with an e-mail address.';
