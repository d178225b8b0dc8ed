create or replace function course.refuse_user_id_change()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
begin
    if tg_relid <> 'public.auth_user'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    if exists (select from course.auth_user as copy where copy.id = old.id) then
        raise exception using
            errcode = 'PY004',
            message = format('column "id" of auth_user can''t change from %s to %s: courses hold '
                             'copies of this user, and their own tables point at them',
                             old.id, new.id),
            hint = 'Insert a new user instead.';
    end if;
    return null;
end
$$;

alter function course.refuse_user_id_change() owner to pysync_fan_out;
revoke all on function course.refuse_user_id_change() from public;
comment on function course.refuse_user_id_change() is
    'Refuse a new id for a user of whom courses hold copies.';

create or replace trigger pysync_user_id_fixed
    after update of id on public.auth_user
    for each row
    when (old.id <> new.id)
    execute function course.refuse_user_id_change();
