create or replace function course.profile_updated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
declare
    old_id bigint;
    old_user_id bigint;
    profile_id bigint;
    new_user_id bigint;
    changed boolean;
    user_ids bigint[];
    course_ids text[];
begin
    if tg_relid <> 'public.auth_userprofile'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    -- The query names the table: see course.user_updated().
    select old.id, old.user_id, new.id, new.user_id,
           row(old.id, old.user_id, {old.profile_columns})::record
               *<> row(new.id, new.user_id, {new.profile_columns})::record
      into old_id, old_user_id, profile_id, new_user_id, changed
      from (select from public.auth_userprofile where false union all select) as one_row;
    if not changed then
        return null;
    end if;

    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform course.lock_live_copies(array[old_user_id, new_user_id]::bigint[]);
    end if;

    -- The row as it is now, not NEW; see course.user_updated().
    if profile_id = old_id and new_user_id = old_user_id then
        update course.auth_userprofile as copy
           set ({profile_columns})
               = row({profile.profile_columns})
          from public.auth_userprofile as profile
          join course.student_courseenrollment as enrollment
               on enrollment.user_id = profile.user_id
         where profile.id = profile_id
           and copy.id = profile.id
           and copy.course_id = enrollment.course_id;
        if not found and row_security_active('public.auth_userprofile') then
            perform course.require_all_rows('public.auth_userprofile');
        end if;
        return null;
    end if;

    -- The profile is somebody else's, or under another id now: as if deleted and inserted.
    perform course.write_members(array[old_user_id, new_user_id]::bigint[], false);

    delete from course.auth_userprofile as copy
     using course.student_courseenrollment as enrollment
     where enrollment.user_id = old_user_id
       and copy.user_id = old_user_id
       and copy.id = old_id
       and copy.course_id = enrollment.course_id;

    select array_agg(enrollment.user_id), array_agg(enrollment.course_id::text)
      into user_ids, course_ids
      from course.student_courseenrollment as enrollment
     where enrollment.user_id = new_user_id;
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

-- See course.user_updated() for why WHEN compares whole rows, as they are stored.
create or replace trigger pysync_profile_updated
    after update on public.auth_userprofile
    for each row
    when (old.* *<> new.*)
    execute function course.profile_updated();
