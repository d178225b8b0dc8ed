-- What the portal knows of each course, also while the course can't be asked: its slot, or that of
-- the relay by way of which it gets its changes, whose course_id begins with relay:. A monitoring role
-- needs USAGE on schema pysync and SELECT on this view, nothing else. PostgreSQL shows what a course
-- has replayed to members of pg_read_all_stats only; others see the position it confirmed, which
-- trails it by up to a second.
create or replace view pysync.subscription_status
with (security_barrier) as
select course.course_id,
       coalesce(relay.replication_name, course.replication_name) as slot_name,
       course.ready_at is not null as is_ready,
       slot.slot_name is not null as slot_exists,
       slot.active as slot_active,
       slot.wal_status,
       now_here.lsn as wal_lsn,
       slot.confirmed_flush_lsn as confirmed_lsn,
       sender.sent_lsn,
       sender.replay_lsn,
       extract(epoch from clock_timestamp() - sender.backend_start)::double precision
           as connected_seconds,
       case when slot.confirmed_flush_lsn is not null
            then greatest(
                now_here.lsn - coalesce(sender.replay_lsn, slot.confirmed_flush_lsn), 0)::bigint
       end as lag_bytes,
       case when slot.restart_lsn is not null
            then greatest(now_here.lsn - slot.restart_lsn, 0)::bigint
       end as retained_wal_bytes,
       -- If the course confirmed nothing more from now on; null without max_slot_wal_keep_size.
       case when slot.safe_wal_size > 0
            then slot.safe_wal_size / nullif(now_here.wal_bytes_per_second, 0)
            when slot.safe_wal_size <= 0 then 0 end as seconds_to_loss,
       mark.number as mark,
       mark.marked_at,
       -- The course has this mark, or a later one, or it has lost changes.
       confirmed.number as confirmed_mark,
       course.lost_at
  from pysync.course
  left join pysync.course as relay on relay.course_id = course.relay
  left join lateral (
           select newest.number, newest.marked_at
             from course.mark as newest
            where newest.course_id = course.course_id
            order by newest.number desc
            limit 1
       ) as mark on true
  left join pg_catalog.pg_replication_slots as slot
    on slot.slot_name = coalesce(relay.replication_name, course.replication_name)
   and slot.database = pg_catalog.current_database()
  left join lateral (
           select max(named.value::bigint) as number
             from course.mark as sent
            cross join jsonb_each_text(sent.predecessors) as named
            where sent.course_id = course.course_id
              and sent.position <= slot.confirmed_flush_lsn - '0/0'
       ) as confirmed on true
  left join pg_catalog.pg_stat_replication as sender on sender.pid = slot.active_pid
 cross join (
           select here.lsn,
                  -- The WAL rate since the last checkpoint: minutes, on a busy server.
                  pg_catalog.pg_wal_lsn_diff(here.lsn, checkpoint.redo_lsn)::double precision
                      / greatest(
                            extract(epoch from clock_timestamp() - checkpoint.checkpoint_time), 1
                        )::double precision as wal_bytes_per_second
             from (select case when pg_catalog.pg_is_in_recovery()
                               then pg_catalog.pg_last_wal_replay_lsn()
                               else pg_catalog.pg_current_wal_lsn() end as lsn) as here
            cross join pg_catalog.pg_control_checkpoint() as checkpoint
       ) as now_here;

revoke all on pysync.subscription_status from public;
comment on view pysync.subscription_status is
    'Slot, lag and last mark of each registered course, as the portal knows them.';
