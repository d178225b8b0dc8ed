create or replace function course.user_deleted()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    delete from course.student_courseenrollment as copy
     using old_rows as portal_user
     where copy.user_id = portal_user.id;

    delete from course.auth_userprofile as copy
     using old_rows as portal_user
     where copy.user_id = portal_user.id;

    -- The row itself stays: tables of the course may point at it.
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
      from old_rows as portal_user
     where copy.id = portal_user.id;
    return null;
end
$$;

alter function course.user_deleted() owner to pysync_owner;
revoke all on function course.user_deleted() from public;
comment on function course.user_deleted() is
    'Deleting a user erases profile and enrollments in every course and scrubs the user row.';

create or replace trigger pysync_user_deleted
    after delete on public.auth_user
    referencing old table as old_rows
    for each statement
    execute function course.user_deleted();
