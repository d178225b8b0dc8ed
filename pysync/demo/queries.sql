-- name: administrator
-- Make the role that pysync connects as. It is a superuser where nobody else makes subscriptions.
do $$
begin
    create role dba login createdb createrole replication;
    if pg_catalog.to_regrole('pg_create_subscription') is null then
        alter role dba superuser;
    end if;
end
$$;

-- name: is_superuser
-- Whether a role is one.
select rolsuper from pg_catalog.pg_roles where rolname = %(role)s;

-- name: insert_users
-- Users with Django's password that nobody has.
insert into public.auth_user (username, password, first_name, last_name, email, date_joined)
select username, '!', 'Student', number, username || '@example.org', %(moment)s
  from jsonb_to_recordset(%(rows)s) as newcomer (username text, number text);

-- name: insert_profiles
-- Their profiles.
insert into public.auth_userprofile (
    user_id, name, gender, location, level_of_education, year_of_birth, meta)
select id, first_name || ' ' || last_name, gender, location, level_of_education, year_of_birth, meta
  from jsonb_to_recordset(%(rows)s) as newcomer (
           username text, gender text, location text, level_of_education text,
           year_of_birth integer, meta text)
  join public.auth_user using (username);

-- name: insert_enrollments
-- Students register for courses.
insert into public.student_courseenrollment (user_id, course_id, created)
select id, course_id, %(moment)s
  from jsonb_to_recordset(%(rows)s) as registration (username text, course_id text)
  join public.auth_user using (username);

-- name: delete_enrollments
-- Students unregister.
delete from public.student_courseenrollment as enrollment
 using jsonb_to_recordset(%(rows)s) as unregistration (username text, course_id text)
  join public.auth_user using (username)
 where enrollment.user_id = auth_user.id
   and enrollment.course_id = unregistration.course_id;
