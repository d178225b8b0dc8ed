-- A frozen copy keeps a username that its owner may have given up on the portal. When somebody else
-- takes it, the frozen copy gives way: '<username>~<id>', cut to fit, and in the unlikely case that
-- this is taken too, '<username>~<id>~2' and so on.
create or replace function course.free_username(course_id text, username text, user_id bigint)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_variable
declare
    max_length constant integer := 150;  -- characters, the width of auth_user.username
    suffix text := '~' || user_id;
    candidate text;
    attempt integer := 1;
begin
    loop
        candidate := left(username, max_length - length(suffix)) || suffix;
        exit when not exists (
            select
              from course.auth_user as other
             where other.course_id = free_username.course_id
               and other.username = candidate
               and other.id <> free_username.user_id
        );
        attempt := attempt + 1;
        suffix := '~' || user_id || '~' || attempt;
    end loop;
    return candidate;
end
$$;

alter function course.free_username(text, text, bigint) owner to pysync_fan_out;
revoke all on function course.free_username(text, text, bigint) from public;
comment on function course.free_username(text, text, bigint) is
    'Return the username under which a frozen copy gives way in a course: <username>~<id>, cut to fit.';
