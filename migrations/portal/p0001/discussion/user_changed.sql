-- Called by course.user_updated(), which looks at each changed user anyway: a trigger of its own would
-- cost every login a comparison more, and its WHEN would keep both columns from changing their type.
create or replace function pysync.user_changed(user_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    is_noted boolean := false;
begin
    if exists (
        select
          from pysync.setting
         where setting.name = 'discussion_service'
           and setting.enabled
    ) then
        -- One note of a user is enough, however often it changes while no pusher runs.
        case current_setting('transaction_isolation')
            when 'read committed' then
                is_noted := pysync.is_noted(user_id);
            when 'repeatable read' then
                begin
                    is_noted := pysync.is_noted(user_id);
                exception when serialization_failure then
                    null;  -- a pusher has taken it since our snapshot
                end;
            else
                -- What is read could make transactions fail. A note per change then: no more rows
                -- than the transaction itself writes, and less than each of these leaves.
                null;
        end case;
        if not is_noted then
            insert into pysync.discussion_change (user_id) values (user_changed.user_id);
        end if;
        perform pysync.wake_pushers();
    end if;
end
$$;

alter function pysync.user_changed(bigint) owner to pysync_fan_out;
revoke all on function pysync.user_changed(bigint) from public;
comment on function pysync.user_changed(bigint) is
    'Note a user with another username or e-mail for the discussion service, while that is on.';
