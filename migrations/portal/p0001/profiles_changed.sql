create or replace function course.profiles_changed()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
begin
    if tg_relid <> 'public.auth_userprofile'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;

    perform course.check_registry();

    -- Also of users without a visible enrollment: one may be under way.
    if tg_op = 'INSERT' then
        insert into pysync.profile_change (user_ids)
        select array_agg(profile.user_id) from new_rows as profile having count(*) > 0;
    elsif tg_op = 'DELETE' then
        insert into pysync.profile_change (user_ids)
        select array_agg(profile.user_id) from old_rows as profile having count(*) > 0;
    else
        -- A full join, which can't be planned as each row with each. Values are compared as they are
        -- stored: a collation may take different ones for equal.
        insert into pysync.profile_change (user_ids)
        select array_agg(before.user_id) filter (where before.user_id is not null)
                   || array_agg(after.user_id)
                          filter (where after.user_id is distinct from before.user_id
                                    and after.user_id is not null)
          from old_rows as before
          full join new_rows as after on after.id = before.id
         where row(before.id, before.user_id, before.name, before.meta, before.courseware,
                   before.language, before.location, before.year_of_birth, before.gender,
                   before.level_of_education, before.mailing_address, before.goals)::record
                   *<> row(after.id, after.user_id, after.name, after.meta, after.courseware,
                           after.language, after.location, after.year_of_birth, after.gender,
                           after.level_of_education, after.mailing_address, after.goals)::record
        having count(*) > 0;
    end if;
    return null;
end
$$;

alter function course.profiles_changed() owner to pysync_fan_out;
revoke all on function course.profiles_changed() from public;
comment on function course.profiles_changed() is
    'Note whose profiles a statement has made, changed or deleted: see course.carry_profiles().';

create or replace trigger pysync_profile_inserted
    after insert on public.auth_userprofile
    referencing new table as new_rows
    for each statement
    execute function course.profiles_changed();

create or replace trigger pysync_profile_updated
    after update on public.auth_userprofile
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function course.profiles_changed();

create or replace trigger pysync_profile_deleted
    after delete on public.auth_userprofile
    referencing old table as old_rows
    for each statement
    execute function course.profiles_changed();
