-- By where the rows are: who has claimed the users has them to itself. With an index to choose, a plan
-- made while the tables were small reads all of one and looks each row up in the list.
create or replace function course.freeze_members(enrollments tid[], users tid[])
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
    delete from course.student_courseenrollment as copy
     where copy.ctid = any (enrollments);

    update course.auth_user as copy
       set live = false
     where copy.ctid = any (users);
end
$$;

alter function course.freeze_members(tid[], tid[]) owner to pysync_fan_out;
revoke all on function course.freeze_members(tid[], tid[]) from public;
comment on function course.freeze_members(tid[], tid[]) is
    'Delete copies of enrollments, and freeze those of users, by their rows'' places.';
