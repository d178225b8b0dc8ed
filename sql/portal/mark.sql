create or replace function pysync.mark(course_id text)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    sent bigint;
begin
    -- A transaction that has sent a mark and stays open keeps its row locked. Nobody waits for that:
    -- a row that is free is taken, or a new one, so there are as many as there were senders at once.
    --
    -- Whoever waits for a mark may go on once any row has one that isn't older. That such a row was
    -- committed after this call began is what must hold: those that can be seen now are exceeded,
    -- and the others' transactions aren't over. Microseconds since 1970 alone would do as long as
    -- the clock is never set back; with them marks keep growing for a course that was removed and
    -- added again, or a portal that was restored.
    --
    -- A mark names what it follows: all that can be seen now, and its own row as it was. So a course
    -- to which the next one comes without these knows that changes beside them are missing.
    update course.mark as latest
       set number = greatest(
               latest.number + 1,
               (select max(seen.number) + 1
                  from course.mark as seen
                 where seen.course_id = mark.course_id),
               (extract(epoch from clock_timestamp()) * 1000000)::bigint),
           marked_at = clock_timestamp(),
           predecessors = (
               select jsonb_object_agg(seen.id, seen.number)
                 from course.mark as seen
                where seen.course_id = mark.course_id) || jsonb_build_object(latest.id, latest.number),
           position = pg_current_wal_insert_lsn() - '0/0'
     where latest.course_id = mark.course_id
       and latest.id = (
               select free.id
                 from course.mark as free
                where free.course_id = mark.course_id
                order by free.id
                limit 1
                  for update skip locked)
    returning latest.number into sent;

    if sent is null then
        insert into course.mark as latest (course_id, number, marked_at, predecessors, position)
        select mark.course_id,
               greatest(
                   max(seen.number) + 1,
                   (extract(epoch from clock_timestamp()) * 1000000)::bigint),
               clock_timestamp(),
               jsonb_object_agg(seen.id, seen.number),
               pg_current_wal_insert_lsn() - '0/0'
          from course.mark as seen
         where seen.course_id = mark.course_id
        having count(*) > 0
        returning latest.number into sent;
    end if;

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
