create or replace function course.profile_inserted()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
declare
    written_users bigint;
    user_ids bigint[];
    course_ids text[];
begin
    if tg_relid <> 'public.auth_userprofile'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    -- Also for users without a visible enrollment: one may be under way, and whichever of the two
    -- transactions comes second at the user's row sees the other's work.
    select array_agg(profile.user_id::bigint) into user_ids from new_rows as profile;
    if user_ids is null then
        return null;
    end if;
    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform course.lock_live_copies(user_ids);
    end if;
    written_users := course.write_members(user_ids, false);
    if exists (select from pysync.course as registered where registered.fans_out) then
        perform course.require_members(user_ids, written_users, 'auth_userprofile');
    end if;

    select array_agg(enrollment.user_id), array_agg(enrollment.course_id::text)
      into user_ids, course_ids
      from new_rows as profile
      join course.student_courseenrollment as enrollment on enrollment.user_id = profile.user_id;
    if user_ids is not null then
        perform course.make_way(user_ids, course_ids);
        perform course.copy_profiles(user_ids, course_ids);
    end if;
    return null;
end
$$;

alter function course.profile_inserted() owner to pysync_fan_out;
revoke all on function course.profile_inserted() from public;
comment on function course.profile_inserted() is
    'A new profile reaches the courses its user is enrolled in.';

create or replace trigger pysync_profile_inserted
    after insert on public.auth_userprofile
    referencing new table as new_rows
    for each statement
    execute function course.profile_inserted();
