create or replace function course.profile_deleted()
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
    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform course.lock_live_copies(
            array(select profile.user_id::bigint from old_rows as profile));
    end if;

    -- Only where the user is enrolled: elsewhere the copy is frozen, until the user is deleted.
    delete from course.auth_userprofile as copy
     using old_rows as profile
      join course.student_courseenrollment as enrollment on enrollment.user_id = profile.user_id
     where copy.user_id = profile.user_id
       and copy.id = profile.id
       and copy.course_id = enrollment.course_id
       -- A trigger of the application's may have put the row back.
       and not exists (
           select
             from public.auth_userprofile as returned
            where returned.id = profile.id
              and returned.user_id = profile.user_id
       );
    return null;
end
$$;

alter function course.profile_deleted() owner to pysync_fan_out;
revoke all on function course.profile_deleted() from public;
comment on function course.profile_deleted() is
    'Deleting a profile removes it from the courses its user is enrolled in.';

create or replace trigger pysync_profile_deleted
    after delete on public.auth_userprofile
    referencing old table as old_rows
    for each statement
    execute function course.profile_deleted();
