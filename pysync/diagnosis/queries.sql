-- name: settings
-- The settings of a server that replication depends on; what our role may not see is left out.
select name, setting
  from pg_catalog.pg_settings
 where name in (
           'wal_level', 'max_replication_slots', 'max_active_replication_origins',
           'max_wal_senders', 'max_worker_processes', 'max_logical_replication_workers',
           'max_sync_workers_per_subscription', 'wal_retrieve_retry_interval', 'wal_writer_delay',
           'output_plugin_libraries', 'max_slot_wal_keep_size');

-- name: slots_and_senders
-- How many there are now, whoever they belong to.
select (select count(*) from pg_catalog.pg_replication_slots),
       (select count(*) from pg_catalog.pg_stat_replication);

-- name: enabled_subscriptions
-- How many subscriptions a course's server has to run.
select count(*) from pg_catalog.pg_subscription where subenabled;
