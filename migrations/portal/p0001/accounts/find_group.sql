create or replace function student.find_group(group_name text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    found_id bigint;
begin
    select test_group.id
      into found_id
      from public.student_usertestgroup as test_group
     where test_group.name = find_group.group_name;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('group ''%s'' unknown: student_usertestgroup holds no such name',
                             group_name),
            hint = 'Create it first with student.create_group() or "pysync group create".';
    end if;
    return found_id;
end
$$;

revoke all on function student.find_group(text) from public;
comment on function student.find_group(text) is
    'Return the id of the group of this name, or fail with PY010.';
