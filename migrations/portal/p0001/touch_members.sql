-- After the users' own rows, never before: whoever has both has them in this order.
create or replace function course.touch_members(user_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_variable
declare
    touched bigint;
begin
    update pysync.member_change as change
       set user_id = user_id
     where change.user_id = any (user_ids);
    get diagnostics touched = row_count;

    if touched < cardinality(user_ids) then
        insert into pysync.member_change as change (user_id)
        select distinct member.user_id
          from unnest(user_ids) as member (user_id)
         order by member.user_id
        on conflict (user_id) do update set user_id = excluded.user_id;
    end if;
end
$$;

alter function course.touch_members(bigint[]) owner to pysync_fan_out;
revoke all on function course.touch_members(bigint[]) from public;
comment on function course.touch_members(bigint[]) is
    'Fail with 40001 if courses hold something else of these users since this transaction''s '
    'snapshot, and have transactions with an older one fail.';
