-- What the comparison with peers runs; their triggers are in fan_out.sql.

-- name: join_sentinel
-- The last user in all courses: whoever sees its next change has all that came before.
insert into public.student_courseenrollment (user_id, course_id)
select %(user)s, course_id from unnest(%(courses)s::text[]) as course_id
on conflict do nothing;

-- name: show_sentinel
-- Whether a course has a change of that user.
select true from course.auth_user where id = %(user)s and email = %(email)s;

-- name: create_node
-- This database, as pglogical calls it.
select pglogical.create_node(%(name)s, %(conninfo)s);

-- name: create_set
-- What a course is sent, as a publication is for PostgreSQL.
select pglogical.create_replication_set(%(name)s, replicate_truncate => false);

-- name: add_to_set
-- A table's rows of one course.
select pglogical.replication_set_add_table(%(name)s, %(table)s::regclass, true, null, %(filter)s);

-- name: subscribe
-- A course to its set.
select pglogical.create_subscription(%(name)s::name, %(conninfo)s, array[%(name)s::text], false, true, '{}');

-- name: all_copied_by_pglogical
-- A row once it has made the first copy of the three tables, and of the whole.
select true from pglogical.local_sync_status having count(*) filter (where sync_status = 'r') = 4;

-- name: digest_of_source
-- The rows of one table that a course must have, by the portal's own tables; columns as in there.
select md5(string_agg(content::text, ',' order by id)), count(*)
  from (
      select {columns}
        from public.{table} as source
        join public.student_courseenrollment as enrollment on enrollment.{key} = source.{of}
       where enrollment.course_id = %(course)s
  ) as content;

-- name: digest_of_copy
-- The rows of one table that a course has.
select md5(string_agg(content::text, ',' order by id)), count(*)
  from (select {columns} from course.{table}) as content;
