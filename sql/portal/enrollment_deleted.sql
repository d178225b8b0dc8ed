create or replace function course.enrollment_deleted()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    user_ids bigint[];
    course_ids text[];
begin
    if tg_relid <> 'public.student_courseenrollment'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    perform course.check_registry();

    -- Every registered course counts, not only those with a copy we can see: a backfill may be
    -- bringing it right now and must meet us at the user's row.
    select array_agg(enrollment.user_id::bigint), array_agg(enrollment.course_id::text)
      into user_ids, course_ids
      from old_rows as enrollment
     where (select registered.fans_out
              from pysync.course as registered
             where registered.course_id = enrollment.course_id)
       -- A trigger of the application's may have put the row back.
       and (select returned.id
              from public.student_courseenrollment as returned
             where returned.user_id = enrollment.user_id
               and returned.course_id || '' = enrollment.course_id{returned.counts}) is null;

    if user_ids is not null then
        perform course.claim_members(user_ids);
        perform course.remove_members(user_ids, course_ids);
    end if;
    return null;
end
$$;

alter function course.enrollment_deleted() owner to pysync_fan_out;
revoke all on function course.enrollment_deleted() from public;
comment on function course.enrollment_deleted() is
    'Unenrolling removes the enrollment from the fan-out; user and profile stay there as frozen copies.';

create or replace trigger pysync_enrollment_deleted
    after delete on public.student_courseenrollment
    referencing old table as old_rows
    for each statement
    execute function course.enrollment_deleted();
