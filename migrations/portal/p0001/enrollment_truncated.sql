create or replace function course.enrollment_truncated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
begin
    if tg_relid <> 'public.student_courseenrollment'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    perform course.check_truncate();

    perform course.carry_profiles();

    -- A replicated TRUNCATE would ignore row filters; deletes obey them.
    delete from course.student_courseenrollment;
    update course.auth_user as copy set live = false where copy.live;
    return null;
end
$$;

alter function course.enrollment_truncated() owner to pysync_fan_out;
revoke all on function course.enrollment_truncated() from public;
comment on function course.enrollment_truncated() is
    'TRUNCATE of the portal''s enrollments reaches each course as deletes of its own rows.';

create or replace trigger pysync_enrollment_truncated
    after truncate on public.student_courseenrollment
    for each statement
    execute function course.enrollment_truncated();
