-- Users that a course can't let go, though nobody enrolled them: rows of its own point at them. Being
-- in the fan-out they are known to the portal: whoever gets such an id or name later is resolved
-- here, and never meets them in the course.
create or replace function pysync.keep_scrubbed(course_id text, user_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
begin
    insert into course.auth_user as copy (
        id, course_id, live, username, {scrubbed_user_columns}
    )
    select gone.id, keep_scrubbed.course_id, false,
           course.scrubbed_username(keep_scrubbed.course_id, gone.id),
           {scrubbed_user_values}
      from unnest(user_ids) as gone (id)
    on conflict on constraint auth_user_pkey do nothing;
end
$$;

revoke all on function pysync.keep_scrubbed(text, bigint[]) from public;
grant execute on function pysync.keep_scrubbed(text, bigint[]) to pysync_fan_out;
comment on function pysync.keep_scrubbed(text, bigint[]) is
    'Enter users whom a course can''t let go as scrubbed copies, unless it has a copy of them.';
