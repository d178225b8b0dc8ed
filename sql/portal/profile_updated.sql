create or replace function course.profile_updated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    user_ids bigint[];
    course_ids text[];
begin
    if tg_relid <> 'public.auth_userprofile'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    -- The table may have columns of the application's own, which no course has.
    if (old.id, old.user_id, {old.profile_columns})
       is not distinct from
       (new.id, new.user_id, {new.profile_columns})
    then
        return null;
    end if;

    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform course.lock_live_copies(array[old.user_id, new.user_id]::bigint[]);
    end if;

    -- The row as it is now, not NEW; see course.user_updated().
    if new.id = old.id and new.user_id = old.user_id then
        update course.auth_userprofile as copy
           set ({profile_columns})
               = row({profile.profile_columns})
          from public.auth_userprofile as profile
          join course.student_courseenrollment as enrollment
               on enrollment.user_id = profile.user_id
         where profile.id = new.id
           and copy.id = profile.id
           and copy.course_id = enrollment.course_id;
        return null;
    end if;

    -- The profile is somebody else's, or under another id now: as if deleted and inserted.
    perform course.write_members(array[old.user_id, new.user_id]::bigint[], false);

    delete from course.auth_userprofile as copy
     using course.student_courseenrollment as enrollment
     where enrollment.user_id = old.user_id
       and copy.user_id = old.user_id
       and copy.id = old.id
       and copy.course_id = enrollment.course_id;

    select array_agg(enrollment.user_id), array_agg(enrollment.course_id::text)
      into user_ids, course_ids
      from course.student_courseenrollment as enrollment
     where enrollment.user_id = new.user_id;
    if course_ids is not null then
        perform course.make_way(user_ids, course_ids);
        perform course.copy_profiles(user_ids, course_ids);
    end if;
    return null;
end
$$;

alter function course.profile_updated() owner to pysync_fan_out;
revoke all on function course.profile_updated() from public;
comment on function course.profile_updated() is
    'A change of a profile reaches the courses its user is enrolled in.';

-- See course.user_updated() for why WHEN doesn't name columns.
create or replace trigger pysync_profile_updated
    after update on public.auth_userprofile
    for each row
    when (old.* is distinct from new.*)
    execute function course.profile_updated();
