create or replace function pysync.mark(course_id text)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    sent bigint;
begin
    -- The row lock makes marks grow in commit order. They are microseconds since 1970, so that they
    -- keep growing for a course that was removed and added again, or a portal that was restored.
    update course.mark as latest
       set number = greatest(
               latest.number + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint),
           marked_at = clock_timestamp()
     where latest.course_id = mark.course_id
    returning latest.number into sent;

    if sent is null then
        raise exception using
            errcode = 'PY005',
            message = format('course ''%s'' is not registered', course_id),
            hint = 'Run "pysync course list" for the registered courses.';
    end if;
    return sent;
end
$$;

alter function pysync.mark(text) owner to pysync_owner;
revoke all on function pysync.mark(text) from public;
comment on function pysync.mark(text) is
    'Send a mark to a course and return it; once course.wait_for(mark) returns there, '
    'everything committed on the portal before the call is visible in the course database.';
