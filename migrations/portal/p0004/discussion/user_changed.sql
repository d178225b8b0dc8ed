create or replace function pysync.user_changed()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    if exists (
        select
          from pysync.setting
         where setting.name = 'discussion_service'
           and setting.enabled
    ) then
        insert into pysync.discussion_change (user_id) values (new.id);
        perform pysync.wake_pushers();
    end if;
    return null;
end
$$;

alter function pysync.user_changed() owner to pysync_owner;
revoke all on function pysync.user_changed() from public;
comment on function pysync.user_changed() is
    'Note a user with another username or e-mail for the discussion service, while that is on.';

-- By values, since a BEFORE trigger may change what the statement doesn't name. A login changes
-- neither, and calls nothing. Every comparison here costs each update of a user some microseconds.
create or replace trigger pysync_discussion_updated
    after update on public.auth_user
    for each row
    when (old.username <> new.username or old.email <> new.email)
    execute function pysync.user_changed();
