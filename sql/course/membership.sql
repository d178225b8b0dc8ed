-- Whatever arrives here belongs to this course. The check is evaluated for the apply worker too: a
-- subscription to the wrong publication stops at its first row instead of mixing two courses.
do $$
declare
    this_course text := (select this_course.course_id from course.this_course);
    replicated_table regclass;
begin
    foreach replicated_table in array array[
        {'published_tables'}
    ]::regclass[]
    loop
        execute format('alter table %s drop constraint if exists pysync_this_course',
                       replicated_table);
        execute format('alter table %s add constraint pysync_this_course check (course_id = %L)',
                       replicated_table, this_course);
    end loop;
end
$$;
