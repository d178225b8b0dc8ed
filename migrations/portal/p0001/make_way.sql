-- Before (user, course) pairs come in: frozen copies that are in their way give it. Most courses
-- have few frozen copies or none, and a partial index tells: sorted, so that no plan reads the table
-- in the hope of meeting one early. To a snapshot that is older than their freezing they are live
-- still; changing them fails with 40001.
create or replace function course.make_way(user_ids bigint[], course_ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    fixed_snapshot constant boolean :=
        pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable');
begin
    if not fixed_snapshot then
        perform
           from course.auth_user as frozen
          where not frozen.live
            and frozen.course_id = any (course_ids)
          order by frozen.course_id, frozen.username
          limit 1;
        if not found then
            return;
        end if;
    end if;

    -- One that holds the username of a member: see course.free_username.
    update course.auth_user as frozen
       set username = course.free_username(frozen.course_id, frozen.username, frozen.id)
      from unnest(user_ids, course_ids) as member (user_id, course_id)
      join public.auth_user as portal_user on portal_user.id = member.user_id
     where (not frozen.live or fixed_snapshot)
       and frozen.course_id = member.course_id
       and frozen.username = portal_user.username
       and frozen.id <> portal_user.id;

    -- The profile of a member who comes back, if it was deleted or made anew in the meantime.
    delete from course.auth_userprofile as copy
     using unnest(user_ids, course_ids) as member (user_id, course_id)
      join course.auth_user as frozen
           on frozen.id = member.user_id and frozen.course_id = member.course_id
     where not frozen.live
       and copy.user_id = member.user_id
       and copy.course_id = member.course_id
       and not exists (
           select
             from public.auth_userprofile as profile
            where profile.user_id = member.user_id
              and profile.id = copy.id
       );

    -- A frozen profile whose id is a member's profile's now.
    delete from course.auth_userprofile as copy
     using unnest(user_ids, course_ids) as member (user_id, course_id)
      join public.auth_userprofile as profile on profile.user_id = member.user_id
     where copy.id = profile.id
       and copy.course_id = member.course_id
       and copy.user_id <> profile.user_id;
end
$$;

alter function course.make_way(bigint[], text[]) owner to pysync_fan_out;
revoke all on function course.make_way(bigint[], text[]) from public;
comment on function course.make_way(bigint[], text[]) is
    'Rename or remove frozen copies that stand in the way of (user, course) pairs about to be copied.';
