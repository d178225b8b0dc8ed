create or replace function course.user_updated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
declare
    old_id bigint;
    user_id bigint;
    changed boolean;
    has_other_name boolean;
    is_news boolean;
begin
    if tg_relid <> 'public.auth_user'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    -- The table may have columns of the application's own, which no course has. The query names the
    -- table, of which it reads no row: a session keeps an expression's plan, with the types that OLD
    -- and NEW had, but a query's only until a table that it names is altered.
    select old.id, new.id,
           row({old.user_columns})::record
               *<> row({new.user_columns})::record,
           row(old.username)::record *<> row(new.username)::record,
           row(old.username, old.email)::record *<> row(new.username, new.email)::record
      into old_id, user_id, changed, has_other_name, is_news
      from (select from public.auth_user where false union all select) as one_row;
    if user_id <> old_id then
        perform course.refuse_user_id_change(old_id, user_id);
    end if;
    if not changed then
        return null;
    end if;
    if is_news then
        perform pysync.user_changed(user_id);
    end if;

    if has_other_name then
        -- Frozen copies that hold the new name give way, see course.free_username. To a snapshot
        -- that is older than their freezing they are live still; changing them fails with 40001.
        update course.auth_user as frozen
           set username = course.free_username(frozen.course_id, frozen.username, frozen.id)
          from public.auth_user as portal_user
          join course.auth_user as renamed on renamed.id = portal_user.id
         where portal_user.id = user_id
           and renamed.live
           and (not frozen.live
                or pg_catalog.current_setting('transaction_isolation')
                   in ('repeatable read', 'serializable'))
           and frozen.course_id = renamed.course_id
           and frozen.username = portal_user.username
           and frozen.id <> user_id;
    end if;

    -- The row as it is now, not NEW: a trigger of the application's may have updated it once more,
    -- and that later change may have come through here already.
    update course.auth_user as copy
       set ({user_columns})
           = row({portal_user.user_columns})
      from public.auth_user as portal_user
     where portal_user.id = user_id
       and copy.id = user_id
       and copy.live;
    if not found and row_security_active('public.auth_user') then
        perform course.require_all_rows('public.auth_user');
    end if;
    return null;
end
$$;

alter function course.user_updated() owner to pysync_fan_out;
revoke all on function course.user_updated() from public;
comment on function course.user_updated() is
    'A change of a user''s base columns reaches the courses the user is enrolled in.';

-- Decided by values, not by the columns an UPDATE names: an application's own BEFORE trigger may
-- change a column that the statement doesn't mention. Whole rows, as they are stored: columns of the
-- application's own may have types without an equality operator, and PostgreSQL doesn't change the
-- type of a column that a trigger names.
create or replace trigger pysync_user_updated
    after update on public.auth_user
    for each row
    when (old.* *<> new.*)
    execute function course.user_updated();
