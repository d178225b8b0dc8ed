-- Whatever arrives here belongs to this course. The type's check is evaluated for the apply worker too: a
-- subscription to the wrong publication stops at its first row instead of mixing two courses. A
-- check of the table's own would do the same, and cost a third of all that applying takes: the worker
-- prepares it anew for each row. It is added when the tables have the type: so none is rewritten.
do $$
declare
    this_course text := (select this_course.course_id from course.this_course);
    replicated record;
begin
    if this_course ^@ 'relay:' then
        return;  -- it has many courses' rows
    end if;
    if to_regtype('course.this_course_id') is null then
        create domain course.this_course_id as varchar(255);
        comment on domain course.this_course_id is 'The id of the course whose database this is.';
    end if;
    for replicated in
        select attrelid::regclass as relation, attcollation::regcollation as collation,
               atttypid <> 'course.this_course_id'::regtype as is_any
          from pg_catalog.pg_attribute
         where attrelid = any (array[
                   'course.auth_user', 'course.auth_userprofile', 'course.student_courseenrollment',
                   'course.mark'
               ]::regclass[])
           and attname = 'course_id'
    loop
        execute format('alter table %s drop constraint if exists pysync_this_course',
                       replicated.relation);
        if replicated.is_any then
            begin
                execute format('alter table %s alter column course_id '
                               'type course.this_course_id collate %s',
                               replicated.relation, replicated.collation);
            exception
                when feature_not_supported then  -- a view of the site's has the column
                    execute format('alter table %s add constraint pysync_this_course '
                                   'check (course_id = %L)', replicated.relation, this_course);
            end;
        end if;
    end loop;
    alter domain course.this_course_id drop constraint if exists pysync_this_course;
    execute format('alter domain course.this_course_id '
                   'add constraint pysync_this_course check (value = %L)', this_course);
end
$$;
