create or replace function pysync.backfill(course_id text, after_user_id bigint, batch_size integer)
returns table (last_user_id bigint, members bigint)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set row_security = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_variable
declare
    enrollment_ids bigint[];
    user_ids bigint[];
    member_ids bigint[];
begin
    select array_agg(batch.id::bigint), array_agg(batch.user_id::bigint order by batch.user_id)
      into enrollment_ids, user_ids
      from (
          select enrollment.id, enrollment.user_id
            from public.student_courseenrollment as enrollment
           where enrollment.course_id = backfill.course_id
             and enrollment.user_id > backfill.after_user_id{enrollment.counts}
           order by enrollment.user_id
           limit backfill.batch_size
      ) as batch;
    if user_ids is null then
        return;
    end if;

    -- The triggers are at work already. Once we hold the users we look again: who has left in the
    -- meantime isn't copied.
    perform
       from public.auth_user as portal_user
      where portal_user.id = any (user_ids)
        for no key update;
    select array_agg(enrollment.id::bigint order by enrollment.user_id),
           array_agg(enrollment.user_id::bigint order by enrollment.user_id)
      into enrollment_ids, member_ids
      from public.student_courseenrollment as enrollment
     where enrollment.id = any (enrollment_ids)
       and enrollment.course_id = backfill.course_id{enrollment.counts};
    if member_ids is not null then
        perform course.copy_members(
            enrollment_ids, member_ids,
            array_fill(backfill.course_id, array[cardinality(member_ids)]));
    end if;
    return query select user_ids[cardinality(user_ids)], cardinality(user_ids)::bigint;
end
$$;

revoke all on function pysync.backfill(text, bigint, integer) from public;
grant execute on function pysync.backfill(text, bigint, integer) to pysync_fan_out;
comment on function pysync.backfill(text, bigint, integer) is
    'Copy the next batch of a registered course''s members into its fan-out; no row when done.';
