create or replace function student.create_group(group_name text, description text default '')
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    new_id bigint;
begin
    if coalesce(create_group.group_name, '') = '' or length(create_group.group_name) > 32 then
        raise exception using
            errcode = 'PY011',
            message = format('group ''%s'' refused: a name has 1 to 32 characters',
                             left(create_group.group_name, 255)),
            hint = 'Choose another name.';
    end if;

    insert into public.student_usertestgroup as test_group (name, description)
    values (create_group.group_name, coalesce(create_group.description, ''))
    on conflict (name) do nothing
    returning test_group.id into new_id;
    if new_id is null then
        raise exception using
            errcode = 'PY012',
            message = format('group ''%s'' exists already: names are unique',
                             create_group.group_name),
            hint = 'Choose another name, or change its text with student.describe_group().';
    end if;
    return new_id;
end
$$;

revoke all on function student.create_group(text, text) from public;
comment on function student.create_group(text, text) is
    'Create a group and return its id.';
