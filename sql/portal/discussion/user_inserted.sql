create or replace function pysync.user_inserted()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
begin
    if tg_relid <> 'public.auth_user'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    if exists (
        select
          from pysync.setting
         where setting.name = 'discussion_service'
           and setting.enabled
    ) then
        insert into pysync.discussion_change (user_id)
        select portal_user.id
          from new_rows as portal_user;
        if found then
            perform pysync.wake_pushers();
        end if;
    end if;
    return null;
end
$$;

alter function pysync.user_inserted() owner to pysync_fan_out;
revoke all on function pysync.user_inserted() from public;
comment on function pysync.user_inserted() is
    'Note new users for the discussion service, while that is on.';

create or replace trigger pysync_discussion_inserted
    after insert on public.auth_user
    referencing new table as new_rows
    for each statement
    execute function pysync.user_inserted();
