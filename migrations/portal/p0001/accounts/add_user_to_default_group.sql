create or replace function student.add_user_to_default_group(username text, group_name text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into public.student_usertestgroup (name, description)
    select standard.group_name, standard.description
      from student.default_groups() as standard
     where standard.group_name = add_user_to_default_group.group_name
       and not exists (
           select
             from public.student_usertestgroup as test_group
            where test_group.name = standard.group_name)
    on conflict (name) do nothing;

    perform student.add_user_to_group(
        add_user_to_default_group.username, add_user_to_default_group.group_name);
end
$$;

revoke all on function student.add_user_to_default_group(text, text) from public;
comment on function student.add_user_to_default_group(text, text) is
    'Add a user to a group, which is created if it is missing and one of the default groups.';
