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
        if ({old.user_columns})
           is not distinct from
           ({new.user_columns})
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
       set ({user_columns})
           = row({portal_user.user_columns})
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
