create or replace function student.approve_email_change(activation_key text)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    change record;
begin
    select pending.user_id, pending.new_email
      into change
      from public.student_pendingemailchange as pending
     where pending.activation_key = approve_email_change.activation_key;

    if found then
        -- Of two sessions that give one address to two users, the second waits here (as it does in
        -- student.change_email); its next statements see what the first has committed.
        perform student.claim_email(change.new_email);
        -- With a fixed snapshot they don't. Every approval writes all requests for its address, so
        -- there the second fails with 40001.
        update public.student_pendingemailchange as rival
           set new_email = rival.new_email
         where lower(rival.new_email) = lower(change.new_email);

        -- While we waited the request may have been replaced, and its key with it.
        delete from public.student_pendingemailchange as pending
         where pending.activation_key = approve_email_change.activation_key;
    end if;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('e-mail key ''%s'' unknown: no change is pending under it',
                             left(activation_key, 32)),
            hint = 'Check that the key was copied as a whole and wasn''t used or replaced.';
    end if;

    perform student.check_email_free(change.new_email, change.user_id);
    update public.auth_user as portal_user
       set email = change.new_email
     where portal_user.id = change.user_id;
    return change.user_id;
end
$$;

revoke all on function student.approve_email_change(text) from public;
comment on function student.approve_email_change(text) is
    'Write the e-mail address of a pending change to its user and return the user''s id.';
