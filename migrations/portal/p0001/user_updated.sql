create or replace function course.user_updated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
begin
    if tg_relid <> 'public.auth_user'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    -- The table may have columns of the application's own, which no course has. PL/pgSQL prepares
    -- each comparison anew in each transaction; a login, the most frequent change, needs one only.
    if new.last_login is not distinct from old.last_login then
        if (old.password, old.last_login, old.is_superuser, old.username, old.first_name,
            old.last_name, old.email, old.is_staff, old.is_active, old.date_joined)
           is not distinct from
           (new.password, new.last_login, new.is_superuser, new.username, new.first_name,
            new.last_name, new.email, new.is_staff, new.is_active, new.date_joined)
        then
            return null;
        end if;
    end if;

    if new.username <> old.username or new.email <> old.email then
        perform pysync.user_changed(new.id);
    end if;

    if new.username <> old.username then
        -- Frozen copies that hold the new name give way, see course.free_username. To a snapshot
        -- that is older than their freezing they are live still; changing them fails with 40001.
        update course.auth_user as frozen
           set username = course.free_username(frozen.course_id, frozen.username, frozen.id)
          from public.auth_user as portal_user
          join course.auth_user as renamed on renamed.id = portal_user.id
         where portal_user.id = new.id
           and renamed.live
           and (not frozen.live
                or pg_catalog.current_setting('transaction_isolation')
                   in ('repeatable read', 'serializable'))
           and frozen.course_id = renamed.course_id
           and frozen.username = portal_user.username
           and frozen.id <> new.id;
    end if;

    -- The row as it is now, not NEW: a trigger of the application's may have updated it once more,
    -- and that later change may have come through here already.
    update course.auth_user as copy
       set (password, last_login, is_superuser, username, first_name, last_name, email, is_staff,
            is_active, date_joined)
           = row(portal_user.password, portal_user.last_login, portal_user.is_superuser,
                 portal_user.username, portal_user.first_name, portal_user.last_name,
                 portal_user.email, portal_user.is_staff, portal_user.is_active,
                 portal_user.date_joined)
      from public.auth_user as portal_user
     where portal_user.id = new.id
       and copy.id = new.id
       and copy.live;
    return null;
end
$$;

alter function course.user_updated() owner to pysync_fan_out;
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
