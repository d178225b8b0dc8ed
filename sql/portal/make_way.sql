-- Before (user, course) pairs come in: frozen copies that hold their usernames give way, see
-- course.free_username. To a snapshot that is older than their freezing they are live still;
-- changing them fails with 40001. INSERT finds what is there by index, whatever the plan; it is made each
-- time, from how large the tables are by then.
create or replace function course.make_way(user_ids bigint[], course_ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    fixed_snapshot constant boolean :=
        pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable');
begin
    insert into course.auth_user as copy (id, course_id, live, {user_columns})
    select frozen.id, frozen.course_id, frozen.live, {frozen.user_columns}
      from unnest(user_ids, course_ids) as member (user_id, course_id)
     cross join lateral (
         select frozen.*
           from course.auth_user as frozen
          where frozen.course_id = member.course_id
            and frozen.username = (
                    select portal_user.username
                      from public.auth_user as portal_user
                     where portal_user.id = member.user_id)
            and frozen.id <> member.user_id
            and (not frozen.live or fixed_snapshot)
         offset 0) as frozen
    on conflict (id, course_id) do update
       set username = course.free_username(copy.course_id, copy.username, copy.id)
     where not copy.live;
end
$$;

alter function course.make_way(bigint[], text[]) owner to pysync_fan_out;
revoke all on function course.make_way(bigint[], text[]) from public;
comment on function course.make_way(bigint[], text[]) is
    'Rename frozen copies that hold the usernames of (user, course) pairs about to be copied.';
