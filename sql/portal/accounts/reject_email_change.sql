create or replace function student.reject_email_change(user_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    delete from public.student_pendingemailchange as pending
     where pending.user_id = reject_email_change.user_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('e-mail change of user ''%s'' unknown: none is pending', user_id),
            hint = 'Look whether it was approved or rejected already.';
    end if;
end
$$;

revoke all on function student.reject_email_change(bigint) from public;
comment on function student.reject_email_change(bigint) is
    'Drop the e-mail change that a user asked for.';
