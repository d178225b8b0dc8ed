create or replace function pysync.send_beats(course_ids text[])
returns table (course_id text, token bigint, marked_at timestamptz)
language sql
volatile
security definer
set search_path = ''
as $$
    -- As pysync.mark() does for one course. Whose row is locked is being sent a mark by somebody
    -- else: a report doesn't wait for that.
    update course.beat as beat
       set token = greatest(
               beat.token + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint),
           marked_at = clock_timestamp()
     where beat.course_id in (
               select free.course_id
                 from course.beat as free
                where free.course_id = any (send_beats.course_ids)
                order by free.course_id
                  for update skip locked)
    returning beat.course_id, beat.token, beat.marked_at
$$;

alter function pysync.send_beats(text[]) owner to pysync_owner;
revoke all on function pysync.send_beats(text[]) from public;
comment on function pysync.send_beats(text[]) is
    'Send a mark to each of these courses in one statement and return the tokens; courses that are '
    'being sent one at this moment, or aren''t registered, are left out.';
