create or replace function student.list_groups()
returns table (group_name text, description text, members bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select test_group.name, test_group.description,
       (select count(*)
          from public.student_usertestgroup_users as member
         where member.usertestgroup_id = test_group.id)
  from public.student_usertestgroup as test_group
 order by test_group.name
$$;

revoke all on function student.list_groups() from public;
comment on function student.list_groups() is
    'Return all groups with the number of their members, by name.';
