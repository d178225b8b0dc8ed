-- Erase users who are gone from the portal, in every course. The row itself stays: tables of the
-- course may point at it.
create or replace function course.scrub_members(user_ids bigint[])
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    delete from course.student_courseenrollment as copy
     where copy.user_id = any (user_ids);

    delete from course.auth_userprofile as copy
     where copy.user_id = any (user_ids);

    update course.auth_user as copy
       set live = false,
           username = case
               when exists (
                   select
                     from course.auth_user as other
                    where other.course_id = copy.course_id
                      and other.username = 'deleted-' || copy.id
                      and other.id <> copy.id
               )
               then course.free_username(copy.course_id, 'deleted-' || copy.id, copy.id)
               else 'deleted-' || copy.id
           end,
           first_name = '',
           last_name = '',
           email = '',
           password = '!',
           last_login = null,
           is_active = false,
           is_staff = false,
           is_superuser = false
     where copy.id = any (user_ids);
end
$$;

alter function course.scrub_members(bigint[]) owner to pysync_owner;
revoke all on function course.scrub_members(bigint[]) from public;
comment on function course.scrub_members(bigint[]) is
    'Remove profiles and enrollments of deleted users from every course and scrub their user rows.';
