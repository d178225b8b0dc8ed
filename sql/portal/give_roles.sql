-- A user who isn't there yet (foreign keys are checked at commit) counts as no member of the
-- staff. Planning for the arrays at hand each time would cost a single enrollment more than all the
-- rest. The plan that is kept has to hold for any number, on tables that had a row or none when it was
-- made: users and roles are looked up by index, in subqueries, which no estimate turns into a join of
-- each with each.
create or replace function course.give_roles(user_ids bigint[], course_ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    given bigint;
begin
    if row_security_active('public.auth_user') then
        perform course.require_all_rows('public.auth_user');
    end if;

    -- Most courses have their roles, and who enrolls has none of them.
    insert into public.django_comment_client_role_users (role_id, user_id)
    select role.id, member.user_id
      from unnest(user_ids, course_ids) as member (user_id, course_id)
     cross join lateral (
         select role.id
           from public.django_comment_client_role as role
          where role.course_id = member.course_id
            and role.name =
                case when (select portal_user.is_staff
                             from public.auth_user as portal_user
                            where portal_user.id = member.user_id)
                     then 'Moderator' else 'Student' end
         offset 0) as role
    on conflict do nothing;
    get diagnostics given = row_count;
    if given = cardinality(user_ids) then
        return;
    end if;

    -- Roles in order: of two bulk enrollments that create the same ones, one waits for the other,
    -- never both. To a snapshot that is older than such a role the conflict is an error, 40001.
    insert into public.django_comment_client_role (course_id, name)
    select wanted.course_id, wanted.name
      from (
          select distinct member.course_id,
                 case when (select portal_user.is_staff
                              from public.auth_user as portal_user
                             where portal_user.id = member.user_id)
                      then 'Moderator' else 'Student' end as name
            from unnest(user_ids, course_ids) as member (user_id, course_id)
      ) as wanted
     where (select role.id
              from public.django_comment_client_role as role
             where role.course_id = wanted.course_id
               and role.name = wanted.name) is null
     order by wanted.course_id, wanted.name
    on conflict (course_id, name) do nothing;

    insert into public.django_comment_client_role_users (role_id, user_id)
    select (select role.id
              from public.django_comment_client_role as role
             where role.course_id = member.course_id
               and role.name =
                   case when (select portal_user.is_staff
                                from public.auth_user as portal_user
                               where portal_user.id = member.user_id)
                        then 'Moderator' else 'Student' end),
           member.user_id
      from unnest(user_ids, course_ids) as member (user_id, course_id)
    on conflict (role_id, user_id) do nothing;
end
$$;

alter function course.give_roles(bigint[], text[]) owner to pysync_fan_out;
revoke all on function course.give_roles(bigint[], text[]) from public;
comment on function course.give_roles(bigint[], text[]) is
    'Give (user, course) pairs their roles: Moderator if the user is staff, else Student.';
