create or replace function course.scrubbed_username(course_id text, user_id bigint)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_variable
declare
    plain constant text := 'deleted-' || user_id;
begin
    if exists (
        select
          from course.auth_user as other
         where other.course_id = scrubbed_username.course_id
           and other.username = plain
           and other.id <> scrubbed_username.user_id
    ) then
        return course.free_username(course_id, plain, user_id);
    end if;
    return plain;
end
$$;

alter function course.scrubbed_username(text, bigint) owner to pysync_fan_out;
revoke all on function course.scrubbed_username(text, bigint) from public;
comment on function course.scrubbed_username(text, bigint) is
    'Return the username that a deleted user''s copy has in a course: deleted-<id>, unless taken.';
