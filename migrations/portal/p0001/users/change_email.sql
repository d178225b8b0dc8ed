create or replace function student.change_email(old_email text, new_email text)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    changed_id bigint;
begin
    if coalesce(new_email, '') !~ '^[^@[:space:][:cntrl:]]+@[^@[:space:][:cntrl:]]+$' then
        raise exception using
            errcode = 'PY011',
            message = format('e-mail ''%s'' refused: it isn''t an e-mail address', new_email),
            hint = 'Pass an address such as ada@example.org.';
    end if;
    if length(new_email) > 254 then
        raise exception using
            errcode = 'PY011',
            message = format('e-mail ''%s...'' refused: it has %s characters, 254 is the limit',
                             left(new_email, 40), length(new_email)),
            hint = 'Pass a shorter address.';
    end if;

    perform student.claim_email(new_email);
    changed_id := student.user_id_by_email(old_email);
    perform student.check_email_free(new_email, changed_id);

    update public.auth_user as portal_user
       set email = new_email
     where portal_user.id = changed_id;
    return changed_id;
end
$$;

revoke all on function student.change_email(text, text) from public;
comment on function student.change_email(text, text) is
    'Change the e-mail address of the user who has the old one, unless another user has the new '
    'one, in whatever case; return the user''s id.';
