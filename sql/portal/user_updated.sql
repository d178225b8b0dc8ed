create or replace function course.user_updated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    old_id bigint;
    user_id bigint;
    changed boolean;
    has_other_name boolean;
    is_news boolean;
    user_ids bigint[];
    course_ids text[];
begin
    if tg_relid <> 'public.auth_user'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        -- The user may have been enrolled or unenrolled since: see course.carry_profiles().
        insert into pysync.profile_change (user_ids)
        select array[new.id]
         where not exists (select from public.auth_user where false);
    end if;

    -- A trigger of the application's may update a row once more, and that later change comes through
    -- here first: then NEW isn't the row as it is any longer, nor until the transaction ends is it
    -- known to be.
    if pg_trigger_depth() > 1 then
        perform set_config('pysync.nested', 'on', true);
    end if;

    -- Nearly always this is all: a member's values change, the name doesn't.
    --
    -- The table may have columns of the application's own, which no course has. The query names the
    -- table, of which it reads no row: a session keeps an expression's plan, with the types that OLD
    -- and NEW had, but a query's only until a table that it names is altered.
    if current_setting('pysync.nested', true) is distinct from 'on' then
        update course.auth_user as copy
           set ({user_columns})
               = row({new.user_columns for copy})
         where old.id = new.id
           and row({old.user_columns})::record
                   *<> row({new.user_columns})::record
           and not (row(old.email)::record *<> row(new.email)::record
                    and exists (
                        select
                          from pysync.setting
                         where setting.name = 'discussion_service'
                           and setting.enabled))
           and not exists (select from public.auth_user where false)
           and copy.id = new.id
           and copy.live
           and copy.username = new.username;
        if found then
            return null;
        end if;
    end if;

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
        select array_agg(copy.id), array_agg(copy.course_id::text)
          into user_ids, course_ids
          from course.auth_user as copy
         where copy.id = user_id
           and copy.live;
        perform course.make_way(user_ids, course_ids);
    end if;

    update course.auth_user as copy
       set ({user_columns})
           = row({portal_user.user_columns for copy})
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

-- For each row that an UPDATE names, whether or not it changes: PostgreSQL takes longer to read a WHEN
-- than this function to compare. Values decide, not columns: an application's own BEFORE trigger may
-- change one that the statement doesn't mention.
create or replace trigger pysync_user_updated
    after update on public.auth_user
    for each row
    execute function course.user_updated();
