create or replace function pysync.send_marks(course_ids text[])
returns table (course_id text, mark bigint, marked_at timestamptz)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Whose row is locked is being sent a mark by somebody else: a report doesn't wait for that.
    for course_id in
        select free.course_id
          from course.mark as free
         where free.course_id = any (send_marks.course_ids)
         order by free.course_id
           for update skip locked
    loop
        mark := pysync.mark(course_id);
        marked_at := clock_timestamp();
        return next;
    end loop;
end
$$;

alter function pysync.send_marks(text[]) owner to pysync_owner;
revoke all on function pysync.send_marks(text[]) from public;
comment on function pysync.send_marks(text[]) is
    'Send a mark to each of these courses in one statement and return them; courses that are '
    'being sent one at this moment, or aren''t registered, are left out.';
