-- Bring what the fan-out has of these users in a course back to what the sources say, by the same
-- functions and under the same locks as the triggers: rows that are right aren't written, and
-- what is changed is replicated like any change.
create or replace function pysync.mend_members(course_id text, user_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
declare
    enrollment_ids bigint[];
    member_ids bigint[];
    left_ids bigint[];
begin
    if not exists (
        select
          from pysync.course as registered
         where registered.course_id = mend_members.course_id
           and registered.fans_out
    ) then
        return;
    end if;

    perform course.claim_members(user_ids);

    select array_agg(enrollment.id::bigint order by enrollment.user_id),
           array_agg(enrollment.user_id::bigint order by enrollment.user_id)
      into enrollment_ids, member_ids
      from public.student_courseenrollment as enrollment
     where enrollment.course_id = mend_members.course_id
       and enrollment.user_id = any (user_ids){enrollment.counts};

    -- What stands in a member's way is wrong itself, be it frozen or live: a batch of its own may
    -- still be to come.
    update course.auth_user as other
       set username = course.free_username(other.course_id, other.username, other.id)
      from public.auth_user as portal_user
     where portal_user.id = any (member_ids)
       and other.course_id = mend_members.course_id
       and other.username = portal_user.username
       and other.id <> portal_user.id;

    delete from course.auth_userprofile as copy
     where copy.course_id = mend_members.course_id
       and copy.user_id = any (user_ids)
       and (copy.user_id = any (member_ids)
            or not exists (
                select
                  from course.auth_user as holder
                 where holder.id = copy.user_id
                   and holder.course_id = copy.course_id))
       and not exists (
           select
             from public.auth_userprofile as profile
            where profile.id = copy.id
              and profile.user_id = any (member_ids)
              -- Under a stranger's id it is in nobody's way and will be updated.
              and (profile.user_id = copy.user_id or copy.user_id <> all (member_ids))
       );

    delete from course.student_courseenrollment as copy
     where copy.course_id = mend_members.course_id
       and (copy.user_id = any (user_ids) or copy.id = any (enrollment_ids))
       and not exists (
           select
             from public.student_courseenrollment as enrollment
            where enrollment.id = copy.id
              and enrollment.user_id = copy.user_id
              and enrollment.course_id = copy.course_id{enrollment.counts}
       );

    if member_ids is not null then
        perform course.copy_members(
            enrollment_ids, member_ids,
            array_fill(mend_members.course_id, array[cardinality(member_ids)]));
    end if;

    select array_agg(copy.id)
      into left_ids
      from course.auth_user as copy
     where copy.course_id = mend_members.course_id
       and copy.id = any (user_ids)
       and copy.live
       and copy.id <> all (coalesce(member_ids, '{}'));
    if left_ids is not null then
        perform course.remove_members(
            left_ids, array_fill(mend_members.course_id, array[cardinality(left_ids)]));
    end if;

    perform course.scrub_members(array(
        select gone.id
          from unnest(user_ids) as gone (id)
         where not exists (
             select from public.auth_user as portal_user where portal_user.id = gone.id)
    ));
end
$$;

revoke all on function pysync.mend_members(text, bigint[]) from public;
grant execute on function pysync.mend_members(text, bigint[]) to pysync_fan_out;
comment on function pysync.mend_members(text, bigint[]) is
    'Bring a course''s fan-out rows of these users back to what the portal''s source tables say.';
