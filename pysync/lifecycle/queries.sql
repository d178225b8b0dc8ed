-- name: owners
-- Whom tables belong to, out of some, but those that are pysync's own.
select c.oid::pg_catalog.regclass::text, r.rolname::text
  from unnest(%(tables)s::text[]) as t (name)
  join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass(t.name)
  join pg_catalog.pg_roles r on r.oid = c.relowner
 where r.rolname <> 'pysync_course'
 order by 1;

-- name: vacant
-- Whether tables never held anything, and have their write guard. Nothing of theirs is read: code of
-- others could run.
select not exists (select from pg_catalog.pg_class c
                    where c.oid = any (%(tables)s::pg_catalog.regclass[])
                      and (c.relkind <> 'r' or c.relhassubclass
                           or pg_catalog.pg_relation_size(c.oid) > 0))
   and not exists (select from unnest(%(guarded)s::pg_catalog.regclass[]) as t (oid)
                    cross join unnest(%(triggers)s::text[]) as guard (name)
                    where not exists (select from pg_catalog.pg_trigger g
                                       where g.tgrelid = t.oid and g.tgname = guard.name
                                         and g.tgenabled = 'O'));

-- name: enter_marks
-- Enter marks that a course lacks, as its first copy would.
insert into course.mark ({columns})
select {columns} from pg_catalog.jsonb_populate_recordset(null::course.mark, %(marks)s::jsonb);

-- name: code_of_others
-- What on tables would run code of others, by a function that is gone afterwards.
select t.name, code
  from unnest(%(tables)s::text[]) as t (name)
 cross join lateral pg_temp.code_of_others(t.name::pg_catalog.regclass) as code
 order by 1, 2;

-- name: retained_wal
-- How much WAL a slot keeps, and how much it may keep at most, in bytes.
select (select greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
          from pg_catalog.pg_replication_slots
         where slot_name = %(name)s),
       (select nullif(setting::bigint, -1) * 1024 * 1024
          from pg_catalog.pg_settings
         where name = 'max_slot_wal_keep_size');

-- name: pending_erasures
-- Erasures under a username that courses have still to confirm.
select distinct user_id
  from pysync.erasure
 where username_digest =
       encode(sha256(convert_to(user_id || ':' || %(username)s, 'UTF8')), 'hex')
 order by 1;

-- name: ask_for_erasure
-- Remember whom to ask whether a user is erased: courses with a copy.
insert into pysync.erasure (user_id, course_id, username_digest)
select id, course_id, %(digest)s
  from course.auth_user
 where id = %(user_id)s;

-- name: unconfirmed_erasures
-- Which courses have still to confirm the erasure of users, and of whom.
select course_id, array_agg(user_id order by user_id)
  from pysync.erasure
 where user_id = any (%(user_ids)s)
 group by course_id
 order by course_id;

-- name: forget_erasures
-- Forget erasures that were confirmed.
delete from pysync.erasure
 using unnest(%(user_ids)s::bigint[], %(course_ids)s::text[]) as done (user_id, course_id)
 where erasure.user_id = done.user_id and erasure.course_id = done.course_id;

-- name: doomed
-- What goes with a user.
select (select count(*) from public.auth_userprofile where user_id = %(user_id)s),
       (select count(*) from public.student_courseenrollment where user_id = %(user_id)s),
       array(select course_id::text from course.auth_user where id = %(user_id)s order by 1);
