-- Bring user, profile (if any) and enrollment of each of these enrollments into the fan-out tables. The
-- arrays are parallel, in the order of users: that is the order in which they are locked, and
-- two bulk enrollments never wait for each other in a circle. See course.claim_members().
--
-- Plans are made once per session, and hold for any number of rows whatever the tables had then:
-- rows are looked up by index, in subqueries that can't be merged with the rest. Of two indexes that
-- would do, the planner takes any while a table is empty: so it is left one (`course_id || ''`).
create or replace function course.copy_members(
    enrollment_ids bigint[], user_ids bigint[], course_ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    members constant bigint := cardinality(user_ids);
    copied bigint;
begin
    -- A statement about many is tried without looking for each row first. To a snapshot that is older
    -- than a row in the way that is an error of its own, and no 40001.
    if members >= 100
       and pg_catalog.current_setting('transaction_isolation')
               not in ('repeatable read', 'serializable')
       and not exists (
               select
                 from unnest(user_ids, course_ids) as member (user_id, course_id)
                cross join lateral (
                    select
                      from course.auth_user as copy
                     where copy.id = member.user_id
                       and copy.course_id || '' = member.course_id
                    offset 0) as held) then
        begin
            perform course.copy_newcomers(enrollment_ids, user_ids, course_ids);
            return;
        exception
            when unique_violation then
                null;  -- frozen copies have their names
        end;
    end if;

    -- Most who come were never here, and nobody has their name.
    insert into course.auth_user (id, course_id, live, {user_columns})
    select member.user_id, member.course_id, true, {source.user_columns}
      from unnest(user_ids, course_ids) as member (user_id, course_id)
     cross join lateral (
         select {portal_user.user_columns as declared}
           from public.auth_user as portal_user
          where portal_user.id = member.user_id
         offset 0
            for no key update) as source
    on conflict do nothing;
    get diagnostics copied = row_count;
    perform course.touch_members(user_ids);

    if copied = members then
        insert into course.auth_userprofile (id, course_id, user_id, {profile_columns})
        select source.id, member.course_id, source.user_id, {source.profile_columns}
          from unnest(user_ids, course_ids) as member (user_id, course_id)
         cross join lateral (
             select profile.id, profile.user_id, {profile.profile_columns as declared}
               from public.auth_userprofile as profile
              where profile.user_id = member.user_id
             offset 0) as source
        on conflict do nothing;
        get diagnostics copied = row_count;
        -- Not everybody has a profile.
        if copied < members then
            perform course.copy_profiles(user_ids, course_ids);
        end if;
    else
        perform course.refresh_members(user_ids, course_ids);
    end if;
    perform course.copy_enrollments(enrollment_ids);
end
$$;

alter function course.copy_members(bigint[], bigint[], text[]) owner to pysync_fan_out;
revoke all on function course.copy_members(bigint[], bigint[], text[]) from public;
comment on function course.copy_members(bigint[], bigint[], text[]) is
    'Bring or refresh the copies of enrollments, their users and profiles.';
