create or replace function student.approve_name_change(user_id bigint)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    approved_name text;
begin
    delete from public.student_pendingnamechange as pending
     where pending.user_id = approve_name_change.user_id
    returning pending.new_name into approved_name;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('name change of user ''%s'' unknown: none is pending', user_id),
            hint = 'Request it first, or look whether it was approved or rejected already.';
    end if;

    update public.auth_userprofile as profile
       set name = approved_name
     where profile.user_id = approve_name_change.user_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('profile of user ''%s'' unknown: the name has nowhere to go', user_id),
            hint = 'Insert the profile first.';
    end if;
    return approved_name;
end
$$;

revoke all on function student.approve_name_change(bigint) from public;
comment on function student.approve_name_change(bigint) is
    'Write the name that a user asked for into the profile and return it.';
