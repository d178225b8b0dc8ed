-- Statements of the benchmarks; those of the peers lie in folder peers, what pgbench runs in pgbench.

-- name: insert_users
-- Users as a portal has them.
insert into public.auth_user (username, password, first_name, last_name, email)
select 'user' || n, 'pbkdf2_sha256$1000000$' || repeat(md5(n::text), 2),
       'First' || n, 'Last' || n, 'user' || n || '@example.org'
  from generate_series(1, %(users)s) as n;

-- name: insert_profiles
-- A profile for each user.
insert into public.auth_userprofile (
    user_id, name, language, location, year_of_birth, gender, level_of_education, mailing_address, goals
)
select id, first_name || ' ' || last_name, 'English', 'Town ' || mod(id, 500),
       1950 + mod(id, 55), 'f', 'b', id || ' Long Street', 'To learn'
  from public.auth_user
 order by id;

-- name: enroll_in_three
-- Each user in three of the courses, the same number in each; in fewer where there are fewer.
insert into public.student_courseenrollment (user_id, course_id)
select id, (%(courses)s::text[])[1 + (id + step) %% cardinality(%(courses)s::text[])]
  from public.auth_user
 cross join generate_series(0, least(3, cardinality(%(courses)s::text[])) - 1) as step;

-- name: enroll_all
-- Every user in one course.
insert into public.student_courseenrollment (user_id, course_id)
select id, %(course)s
  from public.auth_user
 order by id;

-- name: find_triggers
-- Pysync's triggers on the portal's own tables, and whether they are wanted.
select relname::text, tgname::text,
       case when tgname like '%%role%%' then %(roles)s else %(fan_out)s end
  from pg_trigger
  join pg_class on pg_class.oid = tgrelid
 where relnamespace = 'public'::regnamespace
   and relname in ('auth_user', 'auth_userprofile', 'student_courseenrollment')
   and tgname like 'pysync\_%%'
   and not tgisinternal;

-- name: vacuum_updated
-- What single updates of users and profiles leave behind.
vacuum public.auth_user, public.auth_userprofile, course.auth_user, course.auth_userprofile;

-- name: take_back_enrollments
-- Later enrollments, and with them the rows that they brought, whose users weren't there before.
with taken as (
    delete from public.student_courseenrollment where id > %(last)s
),
copies as (
    delete from course.student_courseenrollment where id > %(last)s returning user_id, course_id
),
profiles as (
    delete from course.auth_userprofile as copy
     using copies
     where copy.user_id = copies.user_id
       and copy.course_id = copies.course_id
)
delete from course.auth_user as copy
 using copies
 where copy.id = copies.user_id
   and copy.course_id = copies.course_id;

-- name: take_back_roles
-- The roles that enrolling gave to those who aren't enrolled any more.
delete from public.django_comment_client_role_users as given
 using public.django_comment_client_role as role
 where role.id = given.role_id
   and not exists (
       select
         from public.student_courseenrollment as enrollment
        where enrollment.user_id = given.user_id
          and enrollment.course_id = role.course_id
   );

-- name: insert_more_users
-- Users beside those who are there already, until there are so many.
insert into public.auth_user (username, password, first_name, last_name, email)
select 'more' || n, 'pbkdf2_sha256$1000000$' || repeat(md5(n::text), 2),
       'First' || n, 'Last' || n, 'more' || n || '@example.org'
  from generate_series(1, %(users)s - (select count(*) from public.auth_user)) as n;

-- name: enroll
-- Linearity: each user in one of three courses.
insert into public.student_courseenrollment (user_id, course_id)
select id, 'Bench/Linear/' || mod(id, 3) from public.auth_user;

-- name: update_users
-- Linearity: a change of each user.
update public.auth_user set email = 'new' || id || '@example.org';

-- name: rename_users
-- Linearity: another name for each user.
update public.auth_user set username = username || 'x';

-- name: update_profiles
-- Linearity: a change of each profile.
update public.auth_userprofile set goals = 'To learn more';

-- name: delete_profiles
-- Linearity: all profiles.
delete from public.auth_userprofile;

-- name: insert_profiles_again
-- Linearity: a profile for each user after those who have one.
insert into public.auth_userprofile (user_id, name, language, goals)
select id, first_name || ' ' || last_name, 'English', 'To learn'
  from public.auth_user
 where id > (select coalesce(max(user_id), 0) from public.auth_userprofile);

-- name: move
-- Linearity: the members of each of the three courses into the next one, of which all are frozen
-- copies in the course that they leave.
update public.student_courseenrollment
   set course_id = 'Bench/Linear/' || mod(right(course_id, 1)::bigint + 1, 3)
 where course_id <> 'Bench/Linear/3';

-- name: unenroll
-- Linearity: all members of all courses.
delete from public.student_courseenrollment;

-- name: enroll_where_all_left
-- Linearity: right after that, half of them where they were, half where only others were.
insert into public.student_courseenrollment (user_id, course_id)
select id, 'Bench/Linear/' || mod(id + 1 + mod(id / 3, 2), 3) from public.auth_user;

-- name: delete_users
-- Linearity: all users.
delete from public.auth_user;

-- name: mixed_enroll
-- Mixed work: who is enrolled already stays so.
insert into public.student_courseenrollment (user_id, course_id)
values (%(user)s, %(course)s)
on conflict do nothing;

-- name: mixed_unenroll
-- Mixed work.
delete from public.student_courseenrollment where user_id = %(user)s and course_id = %(course)s;

-- name: mixed_update_user
-- Mixed work.
update public.auth_user set first_name = %(text)s where id = %(user)s;

-- name: mixed_update_profile
-- Mixed work.
update public.auth_userprofile set goals = %(text)s where user_id = %(user)s;

-- name: mixed_enroll_many
-- Mixed work: in order, so that two of them don't wait for each other.
insert into public.student_courseenrollment (user_id, course_id)
select id, %(course)s from public.auth_user where id = any (%(users)s) order by id
on conflict do nothing;

-- name: mixed_update_many_profiles
-- Mixed work: in order, too.
with locked as materialized (
    select id from public.auth_userprofile where user_id = any (%(users)s) order by user_id for no key update
)
update public.auth_userprofile as profile
   set goals = %(text)s
  from locked
 where profile.id = locked.id;

-- name: slots_confirmed
-- Whether every course has flushed what the portal had written by then.
select bool_and(confirmed_flush_lsn >= %(position)s::pg_lsn) from pg_replication_slots;

-- name: all_copied
-- A row once a subscription has made the first copy of all of its tables.
select true from pg_subscription_rel having bool_and(srsubstate = 'r');
