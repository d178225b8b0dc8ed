create or replace function course.touch_updated_at()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    new.updated_at := now();
    return new;
end
$$;

revoke all on function course.touch_updated_at() from public;
comment on function course.touch_updated_at() is
    'Note the time of a change in updated_at, whoever makes it.';

create or replace trigger pysync_touch_updated_at
    before update on public.student_testcenteruser
    for each row
    execute function course.touch_updated_at();

create or replace trigger pysync_touch_updated_at
    before update on public.student_testcenterregistration
    for each row
    execute function course.touch_updated_at();
