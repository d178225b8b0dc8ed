-- Called by course.user_updated(), which looks at each changed user anyway: a trigger of its own would
-- cost every login a comparison more, and its WHEN would keep both columns from changing their type.
create or replace function pysync.user_changed(user_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select
          from pysync.setting
         where setting.name = 'discussion_service'
           and setting.enabled
    ) then
        insert into pysync.discussion_change (user_id) values (user_changed.user_id);
        perform pysync.wake_pushers();
    end if;
end
$$;

alter function pysync.user_changed(bigint) owner to pysync_fan_out;
revoke all on function pysync.user_changed(bigint) from public;
comment on function pysync.user_changed(bigint) is
    'Note a user with another username or e-mail for the discussion service, while that is on.';
