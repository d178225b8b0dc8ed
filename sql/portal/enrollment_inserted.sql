create or replace function course.enrollment_inserted()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
declare
    enrollment_ids bigint[];
    user_ids bigint[];
begin
    if tg_relid <> 'public.student_courseenrollment'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    perform course.check_registry();

    select array_agg(enrollment.id::bigint), array_agg(enrollment.user_id::bigint)
      into enrollment_ids, user_ids
      from new_rows as enrollment
      join pysync.course as registered on registered.course_id = enrollment.course_id
     where registered.fans_out;

    if enrollment_ids is not null then
        perform course.require_members(
            user_ids, course.write_members(user_ids, true), 'student_courseenrollment');
        perform course.copy_members(enrollment_ids);
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
