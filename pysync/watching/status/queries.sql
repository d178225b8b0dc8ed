-- name: courses_of_relay
-- Courses of a relay, which has no registry that could be asked as the portal's is.
select named.course_id, named.replication_name,
       null::timestamptz as ready_at, null::timestamptz as lost_at
  from unnest(%(ids)s::text[], %(names)s::text[]) as named (course_id, replication_name);

-- name: slots
-- What the portal, or a relay, knows of each course; positions are bytes of WAL.
select course_id, slot_exists, slot_active, wal_status,
       (confirmed_lsn - '0/0')::bigint as confirmed_at,
       (sent_lsn - '0/0')::bigint as sent_at,
       (replay_lsn - '0/0')::bigint as replayed_at,
       connected_seconds, lag_bytes, retained_wal_bytes, seconds_to_loss, mark, marked_at,
       confirmed_mark, decoded.spill_bytes,
       (select (to_jsonb(slot) ->> 'failover')::boolean
          from pg_catalog.pg_replication_slots as slot
         where slot.slot_name = status.slot_name and status.slot_exists) as failover
  from {status} as status
  left join pg_catalog.pg_stat_replication_slots as decoded
    on decoded.slot_name = status.slot_name and status.slot_exists;

-- name: has_standbys
-- Whether a standby is connected, or anything that receives WAL as one does.
select exists (select from pg_catalog.pg_stat_replication as sender
                where sender.state is distinct from 'backup'
                  and not exists (select from pg_catalog.pg_replication_slots as slot
                                   where slot.active_pid = sender.pid and slot.slot_type = 'logical'));

-- name: servers_subscriptions
-- What a server's shared catalogs say of pysync's subscriptions, in all of its databases.
select s.subname::text as name, server.system_identifier, s.subdbid::bigint as database_oid,
       s.subenabled as enabled, s.subslotname::text as slot_name, s.subtwophasestate::text as two_phase,
       coalesce(counted.apply_error_count, 0) as apply_errors,
       coalesce(counted.sync_error_count, 0) as sync_errors,
       conflict.conflicts, conflict.missed_changes, worker.said,
       pg_catalog.pg_postmaster_start_time() as server_started_at
  from pg_catalog.pg_subscription as s
  left join pg_catalog.pg_stat_subscription_stats as counted on counted.subid = s.oid
  left join lateral (
           select sum(each.value::bigint)::bigint as conflicts,
                  (sum(each.value::bigint) filter (
                      where each.key in ('confl_update_missing', 'confl_delete_missing')
                  ))::bigint as missed_changes
             from jsonb_each_text(to_jsonb(counted)) as each (key, value)
            where each.key like 'confl\_%') as conflict on true
  left join (
           -- What it says holds once the transaction is over in which it was said.
           select running.subid,
                  case when activity.xact_start is null then activity.application_name end as said
             from pg_catalog.pg_stat_subscription as running
             join pg_catalog.pg_stat_activity as activity on activity.pid = running.pid
            where running.relid is null
              and to_jsonb(running) ->> 'leader_pid' is null) as worker on worker.subid = s.oid
 cross join pg_catalog.pg_control_system() as server
 where s.subname like 'pysync\_%';

-- name: looks
-- When a report last looked into courses.
select course_id, looked_at from pysync.look;

-- name: record_looks
-- Remember that a report looked into these courses.
insert into pysync.look (course_id, looked_at)
select wanted.id, %(at)s from unnest(%(courses)s::text[]) as wanted (id)
 where exists (select from pysync.course where course.course_id = wanted.id)
    on conflict (course_id) do update set looked_at = excluded.looked_at;

-- name: wal_position
-- The end of the portal's WAL in bytes, also of a standby's.
select (case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_receive_lsn()
             else pg_catalog.pg_current_wal_insert_lsn() end - '0/0')::bigint;

-- name: verifications
-- When each course was last verified, and how many rows differed.
select course_id, verified_at, differences from pysync.verification
 where differences is not null;

-- name: facts
-- What a course database says of the subscription of this name. What isn't of the types that the
-- view has is an error, as if the view were missing. It is read once, since it is planned anew in
-- every course: of its rows, that of this subscription if there is one.
select here.course_id::text as owner,
       case when here.course_id = %(course_id)s then here.mark::bigint end as mark,
       case when here.course_id = %(course_id)s then here.marked_at::timestamptz end as marked_at,
       coalesce(ours.found and here.subscription_exists::boolean, false) as subscription_exists,
       case when ours.found then here.subscription_enabled::boolean end as subscription_enabled,
       case when ours.found then here.worker_pid::integer end as worker_pid,
       case when ours.found then (here.received_lsn::pg_lsn - '0/0')::bigint end as received_at,
       coalesce(case when ours.found then here.tables_ready::bigint end, 0) as tables_ready,
       coalesce(case when ours.found then here.tables_total::bigint end, 0) as tables_total,
       coalesce(case when ours.found then here.tables_uncopied::text[] end, '{}')
           as tables_uncopied,
       coalesce(case when ours.found then here.rows_copied::jsonb end, '{}') as rows_copied,
       coalesce(case when ours.found then here.apply_errors::bigint end, 0) as apply_errors,
       coalesce(case when ours.found then here.sync_errors::bigint end, 0) as sync_errors,
       case when ours.found then here.conflicts::bigint end as conflicts,
       here.missing_since::timestamptz,
       here.missing_until::timestamptz,
       here.server_started_at::timestamptz,
       case when ours.found then here.missed_changes::bigint end as missed_changes,
       pg_catalog.has_function_privilege(
           'pg_catalog.pg_replication_origin_progress(text, boolean)', 'execute') as tells_position
  from course.replication_status as here
 cross join lateral (
           select here.subscription_name is not distinct from %(name)s as found) as ours
 order by ours.found desc
 limit 1;

-- name: all_at_once
-- The facts, and what else is asked for if all of it is there and our role may see it: the portal that
-- says it has the course, its revision, and what is applied.
select facts.*,
       (select this_course.portal_id from course.this_course) as portal_id,
       (select alembic_version.version_num from course.alembic_version) as revision,
       {applied_position} as applied_at
  from {facts} as facts;

-- name: subscription
-- Whether the subscription is there and enabled, where the view can't say.
select count(*) > 0 as subscription_exists, bool_or(s.subenabled) as subscription_enabled
  from pg_catalog.pg_subscription s
  join pg_catalog.pg_database d on d.oid = s.subdbid
 where s.subname = %(name)s and d.datname = pg_catalog.current_database();

-- name: applied_position
-- What the course has applied, in bytes of the portal's WAL. A query of its own: who may not
-- execute the function can't even name it.
select (pg_catalog.pg_replication_origin_progress(o.roname, false) - '0/0')::bigint
  from pg_catalog.pg_subscription s
  join pg_catalog.pg_database d on d.oid = s.subdbid
  join pg_catalog.pg_replication_origin o on o.roname = 'pg_' || s.oid
 where s.subname = %(name)s and d.datname = pg_catalog.current_database();

-- name: newest_mark
-- The newest mark that is visible in the course.
select max(number) from course.mark where course_id = %(course_id)s;

-- name: strangers
-- Name and database of subscriptions of pysync's on this server that no course of ours has.
select s.subname::text, d.datname::text
  from pg_catalog.pg_subscription s
  join pg_catalog.pg_database d on d.oid = s.subdbid
 where s.subname like 'pysync\_%%' and s.subname <> all (%(known)s)
 order by 1;

-- name: orphan_slots
-- Slots in this database that aren't what a course streams from, and the course that a merge may
-- have left one to. A resync has a temporary one for a while; those of a standby are synchronized
-- from its primary.
select slot.slot_name::text,
       greatest(pg_catalog.pg_current_wal_lsn() - slot.restart_lsn, 0)::bigint,
       course.course_id
  from pg_catalog.pg_replication_slots as slot
  left join pysync.course on slot.slot_name = course.replication_name || '_merged'
 where not pg_catalog.pg_is_in_recovery()
   and slot.database = pg_catalog.current_database()
   and slot.slot_name like 'pysync\_%%' and not slot.temporary
   and slot.slot_name not in (select replication_name from pysync.course where relay is null)
 order by 1;

-- name: orphan_publications
-- Publications that belong to no course; a probe is there for a moment while one is added.
select pubname::text
  from pg_catalog.pg_publication
 where pubname like 'pysync\_%%' and pubname not like '%%\_probe'
   and pubname not in (select replication_name from pysync.course where relay is null)
 order by 1;
