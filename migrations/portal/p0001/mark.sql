create or replace function pysync.mark(course_id text)
returns bigint
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    token bigint;
begin
    -- The row lock makes tokens grow in commit order. They are microseconds since 1970, so that they
    -- keep growing for a course that was removed and added again, or a portal that was restored.
    update course.beat as beat
       set token = greatest(
               beat.token + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint),
           marked_at = clock_timestamp()
     where beat.course_id = mark.course_id
    returning beat.token into token;

    if token is null then
        raise exception using
            errcode = 'PY005',
            message = format('course ''%s'' is not registered', course_id),
            hint = 'Run "pysync course list" for the registered courses.';
    end if;
    return token;
end
$$;

alter function pysync.mark(text) owner to pysync_owner;
revoke all on function pysync.mark(text) from public;
comment on function pysync.mark(text) is
    'Send a mark to a course and return its token; once course.wait_for(token) returns there, '
    'everything committed on the portal before the call is visible in the course database.';
