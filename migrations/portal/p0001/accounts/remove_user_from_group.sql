create or replace function student.remove_user_from_group(username text, group_name text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    found_group_id bigint := student.find_group(group_name);
    found_user_id bigint := student.find_user(username);
begin
    delete from public.student_usertestgroup_users as member
     where member.usertestgroup_id = found_group_id
       and member.user_id = found_user_id;
end
$$;

revoke all on function student.remove_user_from_group(text, text) from public;
comment on function student.remove_user_from_group(text, text) is
    'Remove a user from a group; that the user isn''t in it is no error.';
