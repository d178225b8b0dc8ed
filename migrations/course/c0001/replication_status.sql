-- What a course database knows of its replication, also while the portal can't be asked: the twin of
-- pysync.subscription_status there. A row for each subscription of pysync's in this database, one
-- row without if there is none. A monitoring role needs USAGE on schema course and SELECT on this
-- view, nothing else; PostgreSQL shows rows_copied to members of pg_read_all_stats only.
create or replace view course.replication_status
with (security_barrier) as
select this_course.course_id,
       subscription.subname::text as subscription_name,
       subscription.oid is not null as subscription_exists,
       subscription.subenabled as subscription_enabled,
       subscription.subslotname::text as slot_name,
       worker.pid as worker_pid,
       worker.received_lsn,
       copy.tables_ready,
       copy.tables_total,
       copy.tables_uncopied,
       copy.rows_copied,
       counted.apply_errors,
       counted.sync_errors,
       counted.conflicts,
       mark.number as mark,
       mark.marked_at,
       -- Changes of the portal between these times never arrived; null if none are known of.
       missing.since as missing_since,
       missing.until as missing_until,
       -- Changes of rows that weren't there: rows were lost, or removed here. Counted since 18.
       counted.missed_changes,
       pg_catalog.pg_postmaster_start_time() as server_started_at
  from (select) as one_row
  left join course.this_course on true
  left join lateral (
           select newest.number, newest.marked_at
             from course.mark as newest
            where newest.course_id = this_course.course_id
            order by newest.number desc
            limit 1
       ) as mark on true
  left join lateral (
           select min(noted.lost_after) as since, max(noted.lost_before) as until
             from course.missing_mark as noted
       ) as missing on true
  left join pg_catalog.pg_subscription as subscription
    on subscription.subname like 'pysync\_%'
   and subscription.subdbid = (select here.oid from pg_catalog.pg_database as here
                                where here.datname = pg_catalog.current_database())
  left join lateral (
           -- By functions: views of these statistics are planned with all that they join. Of no
           -- subscription this one tells those of all. And as JSON: what a view has of a function
           -- in FROM are its columns by number, which pg_upgrade would take to others.
           select (found.entry ->> 'pid')::integer as pid,
                  (found.entry ->> 'received_lsn')::pg_lsn as received_lsn
             from (select to_jsonb(pg_catalog.pg_stat_get_subscription(subscription.oid)) as entry)
                  as found
            where found.entry ->> 'relid' is null
              and found.entry ->> 'pid' is not null
              -- Parallel apply workers, of version 16 and later, have a leader.
              and found.entry ->> 'leader_pid' is null
            limit 1
       ) as worker on subscription.oid is not null
  left join lateral (
           select count(*) filter (where subscribed.srsubstate = 'r') as tables_ready,
                  count(*) as tables_total,
                  -- Their rows aren't there yet: initial, or being copied.
                  array_agg(copied.relname::text order by copied.relname)
                      filter (where subscribed.srsubstate in ('i', 'd')) as tables_uncopied,
                  jsonb_object_agg(copied.relname, progress.tuples_processed)
                      filter (where progress.tuples_processed is not null) as rows_copied
             from pg_catalog.pg_subscription_rel as subscribed
             join pg_catalog.pg_class as copied on copied.oid = subscribed.srrelid
             left join lateral (
                      select running.tuples_processed
                        from pg_catalog.pg_stat_progress_copy as running
                       where subscribed.srsubstate in ('i', 'd')  -- else it isn't even looked for
                         and running.relid = copied.oid
                         and running.datname = pg_catalog.current_database()
                  ) as progress on true
            where subscribed.srsubid = subscription.oid
       ) as copy on subscription.oid is not null
  left join lateral (
           -- Which are counted depends on the version: conflicts since 18.
           select sum(per_name.value::bigint) filter (where per_name.key = 'apply_error_count')::bigint
                      as apply_errors,
                  sum(per_name.value::bigint) filter (where per_name.key like 'sync%\_error\_count')::bigint
                      as sync_errors,
                  sum(per_name.value::bigint) filter (where per_name.key like 'confl\_%')::bigint
                      as conflicts,
                  sum(per_name.value::bigint) filter (
                      where per_name.key in ('confl_update_missing', 'confl_delete_missing')
                  )::bigint as missed_changes
             from jsonb_each_text(
                      to_jsonb(pg_catalog.pg_stat_get_subscription_stats(subscription.oid))
                  ) as per_name (key, value)
       ) as counted on subscription.oid is not null;

revoke all on course.replication_status from public;
comment on view course.replication_status is
    'Subscription, first copy, errors and last mark of this course, as its database knows them.';
