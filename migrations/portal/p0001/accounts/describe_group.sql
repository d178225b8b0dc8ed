create or replace function student.describe_group(group_name text, description text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    found_id bigint := student.find_group(group_name);
begin
    update public.student_usertestgroup as test_group
       set description = coalesce(describe_group.description, '')
     where test_group.id = found_id;
end
$$;

revoke all on function student.describe_group(text, text) from public;
comment on function student.describe_group(text, text) is
    'Change the description of a group.';
