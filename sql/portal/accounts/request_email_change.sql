create or replace function student.request_email_change(user_id bigint, new_email text)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    fresh_key text := student.new_key();
begin
    perform student.require_user(request_email_change.user_id);
    if coalesce(request_email_change.new_email, '')
       !~ '^[^@[:space:][:cntrl:]]+@[^@[:space:][:cntrl:]]+$'
       or length(request_email_change.new_email) > 254
    then
        raise exception using
            errcode = 'PY011',
            message = format('e-mail address ''%s'' refused: it has an @ inside, no white space '
                             'and at most 254 characters',
                             left(request_email_change.new_email, 254)),
            hint = 'Check the spelling.';
    end if;
    perform student.check_email_free(request_email_change.new_email, request_email_change.user_id);

    insert into public.student_pendingemailchange as pending (user_id, new_email, activation_key)
    values (request_email_change.user_id, request_email_change.new_email, fresh_key)
    on conflict (user_id) do update
       set new_email = excluded.new_email,
           activation_key = excluded.activation_key;
    return fresh_key;
end
$$;

revoke all on function student.request_email_change(bigint, text) from public;
comment on function student.request_email_change(bigint, text) is
    'Ask for another e-mail address for a user and return the key to send there; '
    'a request that is pending already is replaced.';
