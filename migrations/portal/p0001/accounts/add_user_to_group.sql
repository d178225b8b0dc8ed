create or replace function student.add_user_to_group(username text, group_name text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    insert into public.student_usertestgroup_users (usertestgroup_id, user_id)
    values (student.find_group(group_name), student.find_user(username))
    on conflict (usertestgroup_id, user_id) do nothing;
end
$$;

revoke all on function student.add_user_to_group(text, text) from public;
comment on function student.add_user_to_group(text, text) is
    'Add a user to a group; once more is no error.';
