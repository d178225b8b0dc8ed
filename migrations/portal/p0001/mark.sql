create or replace function pysync.mark(course_id text)
returns bigint
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    sent bigint;
begin
    -- Waited for, unlike by a report: the row's lock makes marks grow in commit order.
    perform from course.mark as latest where latest.course_id = mark.course_id for update;
    select latest.mark into sent from pysync.send_marks(array[mark.course_id]) as latest;
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
