create or replace function pysync.send_marks(course_ids text[])
returns table (course_id text, mark bigint, marked_at timestamptz)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
begin
    for course_id in
        select distinct registered.course_id
          from course.mark as registered
         where registered.course_id = any (send_marks.course_ids)
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
    'Send a mark to each of these courses in one statement and return them; courses that aren''t '
    'registered are left out.';
