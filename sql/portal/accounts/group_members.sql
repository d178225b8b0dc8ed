create or replace function student.group_members(group_name text)
returns table (user_id bigint, username text, email text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    found_id bigint := student.find_group(group_members.group_name);
begin
    return query
    select portal_user.id::bigint, portal_user.username::text, portal_user.email::text
      from public.student_usertestgroup_users as member
      join public.auth_user as portal_user on portal_user.id = member.user_id
     where member.usertestgroup_id = found_id
     order by portal_user.username;
end
$$;

revoke all on function student.group_members(text) from public;
comment on function student.group_members(text) is
    'Return the users in a group, by username.';
