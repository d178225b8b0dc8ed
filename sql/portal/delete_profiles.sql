-- See course.freeze_members().
create or replace function course.delete_profiles(profiles tid[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_indexscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_variable
begin
    delete from course.auth_userprofile as copy
     where copy.ctid = any (profiles);
end
$$;

alter function course.delete_profiles(tid[]) owner to pysync_fan_out;
revoke all on function course.delete_profiles(tid[]) from public;
comment on function course.delete_profiles(tid[]) is
    'Delete copies of profiles by their rows'' places.';
