create or replace function course.user_deleted()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
declare
    user_ids bigint[];
begin
    if tg_relid <> 'public.auth_user'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    user_ids := array(select portal_user.id::bigint from old_rows as portal_user);
    perform course.touch_members(user_ids);
    perform course.scrub_members(user_ids);
    return null;
end
$$;

alter function course.user_deleted() owner to pysync_fan_out;
revoke all on function course.user_deleted() from public;
comment on function course.user_deleted() is
    'Deleting a user erases profile and enrollments in every course and scrubs the user row.';

create or replace trigger pysync_user_deleted
    after delete on public.auth_user
    referencing old table as old_rows
    for each statement
    execute function course.user_deleted();
