create or replace function course.user_updated()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    -- The table may have columns of the application's own, which no course has.
    if (old.password, old.last_login, old.is_superuser, old.username, old.first_name,
        old.last_name, old.email, old.is_staff, old.is_active, old.date_joined)
       is not distinct from
       (new.password, new.last_login, new.is_superuser, new.username, new.first_name,
        new.last_name, new.email, new.is_staff, new.is_active, new.date_joined)
    then
        return null;
    end if;

    if new.username <> old.username then
        -- Frozen copies that hold the new name give way, see course.free_username.
        update course.auth_user as frozen
           set username = course.free_username(frozen.course_id, frozen.username, frozen.id)
          from course.auth_user as renamed
         where renamed.id = new.id
           and renamed.live
           and not frozen.live
           and frozen.course_id = renamed.course_id
           and frozen.username = new.username
           and frozen.id <> new.id;
    end if;

    update course.auth_user as copy
       set password = new.password,
           last_login = new.last_login,
           is_superuser = new.is_superuser,
           username = new.username,
           first_name = new.first_name,
           last_name = new.last_name,
           email = new.email,
           is_staff = new.is_staff,
           is_active = new.is_active,
           date_joined = new.date_joined
     where copy.id = new.id
       and copy.live;
    return null;
end
$$;

alter function course.user_updated() owner to pysync_owner;
revoke all on function course.user_updated() from public;
comment on function course.user_updated() is
    'A change of a user''s base columns reaches the courses the user is enrolled in.';

-- Decided by values, not by the columns an UPDATE names: an application's own BEFORE trigger may
-- change a column that the statement doesn't mention. PostgreSQL reads WHEN anew for each statement;
-- naming ten columns here costs a single-row update more than copying it.
create or replace trigger pysync_user_updated
    after update on public.auth_user
    for each row
    when (old.* is distinct from new.*)
    execute function course.user_updated();
