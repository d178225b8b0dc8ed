create or replace function course.enrollment_inserted()
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
    enrollment_ids bigint[];
    user_ids bigint[];
    course_ids text[];
begin
    if tg_relid <> 'public.student_courseenrollment'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    perform course.check_registry();

    -- A trigger of the application's may have changed the row or taken it back.
    select array_agg(enrollment.id::bigint order by enrollment.user_id),
           array_agg(enrollment.user_id::bigint order by enrollment.user_id),
           array_agg(enrollment.course_id::text order by enrollment.user_id)
      into enrollment_ids, user_ids, course_ids
      from new_rows as inserted
     cross join lateral (
         select enrollment.id, enrollment.user_id, enrollment.course_id
           from public.student_courseenrollment as enrollment
          where enrollment.id = inserted.id{enrollment.counts}
         offset 0) as enrollment
     where (select registered.fans_out
              from pysync.course as registered
             where registered.course_id = enrollment.course_id);

    if enrollment_ids is not null then
        perform course.copy_members(enrollment_ids, user_ids, course_ids);
    elsif row_security_active('public.student_courseenrollment') then
        perform course.require_all_rows('public.student_courseenrollment');
    end if;
    return null;
end
$$;

alter function course.enrollment_inserted() owner to pysync_fan_out;
revoke all on function course.enrollment_inserted() from public;
comment on function course.enrollment_inserted() is
    'Enrolling brings user, profile and enrollment into the fan-out of a registered course.';

create or replace trigger pysync_enrollment_inserted
    after insert on public.student_courseenrollment
    referencing new table as new_rows
    for each statement
    execute function course.enrollment_inserted();
