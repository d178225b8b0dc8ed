-- A course enters or leaves the registry between enrollments, never in the middle of one, and so does
-- what counts as one change: what is under way is waited for, what comes later sees the new registry,
-- and runs the new functions (or fails, see course.check_registry).
create or replace function pysync.registry_changed()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    lock table public.student_courseenrollment in share row exclusive mode;
    update pysync.registry_change set changed_at = clock_timestamp();
    return null;
end
$$;

revoke all on function pysync.registry_changed() from public;
comment on function pysync.registry_changed() is
    'Wait for enrollments under way, and make transactions with an older snapshot fail with 40001.';

create or replace trigger pysync_registry_changed
    before insert or delete or update of fans_out on pysync.course
    for each statement
    execute function pysync.registry_changed();

create or replace trigger pysync_membership_changed
    before insert or update or delete on pysync.membership
    for each statement
    execute function pysync.registry_changed();
