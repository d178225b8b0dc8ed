create or replace function course.refuse_user_truncate()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
begin
    if tg_relid <> 'public.auth_user'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    perform course.check_truncate();

    if exists (select from course.auth_user) then
        raise exception using
            errcode = 'PY003',
            message = 'TRUNCATE of auth_user refused: courses hold copies of its users',
            hint = 'DELETE erases users in their courses too.';
    end if;
    return null;
end
$$;

alter function course.refuse_user_truncate() owner to pysync_fan_out;
revoke all on function course.refuse_user_truncate() from public;
comment on function course.refuse_user_truncate() is
    'Refuse TRUNCATE of auth_user while courses hold copies: ids might come back as other people.';

create or replace trigger pysync_user_truncated
    before truncate on public.auth_user
    for each statement
    execute function course.refuse_user_truncate();
