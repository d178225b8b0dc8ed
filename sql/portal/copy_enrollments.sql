create or replace function course.copy_enrollments(enrollment_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
begin
    if row_security_active('public.student_courseenrollment') then
        perform course.require_all_rows('public.student_courseenrollment');
    end if;

    insert into course.student_courseenrollment as copy (
        id, course_id, user_id, {enrollment_columns}
    )
    select enrollment.id, enrollment.course_id, enrollment.user_id, {enrollment.enrollment_columns as declared}
      from public.student_courseenrollment as enrollment
     where enrollment.id = any (enrollment_ids){enrollment.counts}
    on conflict (user_id, course_id) do update
       set (id, {enrollment_columns}) = row(excluded.id, {excluded.enrollment_columns})
     where copy.* is distinct from excluded.*;
end
$$;

alter function course.copy_enrollments(bigint[]) owner to pysync_fan_out;
revoke all on function course.copy_enrollments(bigint[]) from public;
comment on function course.copy_enrollments(bigint[]) is
    'Bring or refresh the copies of enrollments, whose users must have been claimed.';
