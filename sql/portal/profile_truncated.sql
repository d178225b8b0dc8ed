create or replace function course.profile_truncated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
begin
    if tg_relid <> 'public.auth_userprofile'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    perform course.check_truncate();

    -- A replicated TRUNCATE would ignore row filters; deletes obey them.
    delete from course.auth_userprofile as copy
     using course.student_courseenrollment as enrollment
     where copy.user_id = enrollment.user_id
       and copy.course_id = enrollment.course_id;
    return null;
end
$$;

alter function course.profile_truncated() owner to pysync_fan_out;
revoke all on function course.profile_truncated() from public;
comment on function course.profile_truncated() is
    'TRUNCATE of the portal''s profiles reaches each course as deletes of its own rows.';

create or replace trigger pysync_profile_truncated
    after truncate on public.auth_userprofile
    for each statement
    execute function course.profile_truncated();
