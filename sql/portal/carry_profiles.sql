-- What this transaction has changed of profiles, brought to the courses of their users. With a fixed
-- snapshot whoever it has changed is among them: 40001 if they were enrolled or unenrolled since.
--
-- When it ends, not before: who changes a profile has locked it, and would then wait for somebody who
-- enrolls its user; who enrolls would wait for the user, whom this transaction may lock next. Now it
-- takes nothing more. And all users at once, in order, as everybody does who takes several.
create or replace function course.carry_profiles()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    changed_user_ids bigint[];
    user_ids bigint[];
    course_ids text[];
begin
    with change as (
        delete from pysync.profile_change as change
         where change.transaction_id = pg_current_xact_id()::text::bigint
        returning change.user_ids
    )
    select array_agg(changed.user_id)
      into changed_user_ids
      from change
     cross join unnest(change.user_ids) as changed (user_id);
    if changed_user_ids is null then
        return;
    end if;
    perform course.touch_members(changed_user_ids);

    select array_agg(copy.user_id), array_agg(copy.course_id::text)
      into user_ids, course_ids
      from course.student_courseenrollment as copy
     where copy.user_id = any (changed_user_ids);
    if user_ids is not null then
        perform course.copy_profiles(user_ids, course_ids);
    end if;
end
$$;

alter function course.carry_profiles() owner to pysync_fan_out;
revoke all on function course.carry_profiles() from public;
comment on function course.carry_profiles() is
    'Bring this transaction''s changes of profiles to the courses that their users are enrolled in.';
