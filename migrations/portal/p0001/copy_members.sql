-- Bring user, profile (if any) and enrollment of each of these enrollments into the fan-out tables,
-- or refresh what is there. Enrollments that no longer exist are passed over: a caller that has
-- locked their users copies what is true now, not what was true when it made its list.
create or replace function course.copy_members(enrollment_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    user_ids bigint[];
    course_ids text[];
begin
    if row_security_active('public.student_courseenrollment') then
        perform course.require_all_rows('public.student_courseenrollment');
    end if;
    select array_agg(enrollment.user_id::bigint), array_agg(enrollment.course_id::text)
      into user_ids, course_ids
      from public.student_courseenrollment as enrollment
     where enrollment.id = any (enrollment_ids);

    perform course.make_way(user_ids, course_ids);

    insert into course.auth_user as copy (
        id, course_id, live, password, last_login, is_superuser, username, first_name, last_name,
        email, is_staff, is_active, date_joined
    )
    select portal_user.id, member.course_id, true, portal_user.password, portal_user.last_login,
           portal_user.is_superuser, portal_user.username, portal_user.first_name,
           portal_user.last_name, portal_user.email, portal_user.is_staff, portal_user.is_active,
           portal_user.date_joined
      from unnest(user_ids, course_ids) as member (user_id, course_id)
      join public.auth_user as portal_user on portal_user.id = member.user_id
    on conflict (id, course_id) do update
       set (live, password, last_login, is_superuser, username, first_name, last_name, email,
            is_staff, is_active, date_joined)
           = row(true, excluded.password, excluded.last_login, excluded.is_superuser,
                 excluded.username, excluded.first_name, excluded.last_name, excluded.email,
                 excluded.is_staff, excluded.is_active, excluded.date_joined)
     where copy is distinct from excluded;

    perform course.copy_profiles(user_ids, course_ids);

    insert into course.student_courseenrollment as copy (id, course_id, user_id, created)
    select enrollment.id, enrollment.course_id, enrollment.user_id, enrollment.created
      from public.student_courseenrollment as enrollment
     where enrollment.id = any (enrollment_ids)
    on conflict (user_id, course_id) do update
       set (id, created) = row(excluded.id, excluded.created)
     where copy is distinct from excluded;
end
$$;

alter function course.copy_members(bigint[]) owner to pysync_fan_out;
revoke all on function course.copy_members(bigint[]) from public;
comment on function course.copy_members(bigint[]) is
    'Bring or refresh the copies of enrollments and their users, which must be locked.';
