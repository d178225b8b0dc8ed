-- name: retaining_slots
-- Logical slots of this database with the WAL that they retain in bytes: of lost ones there is none.
select slot_name::text, active, (restart_lsn, confirmed_flush_lsn)::text,
       (pg_catalog.pg_current_wal_lsn() - restart_lsn)::bigint
  from pg_catalog.pg_replication_slots
 where slot_type = 'logical' and database = pg_catalog.current_database()
   and restart_lsn is not null and wal_status is distinct from 'lost';

-- name: upgraded_server
-- What matters to an upgrade of a server: whether it has the functions with which the next one takes
-- slots and subscriptions over, settings that the next one needs, and tables without statistics.
select server.system_identifier as place,
       exists (select from pg_catalog.pg_proc
                where proname like 'binary\_upgrade\_%%\_slot\_%%') as keeps,
       -- Where origins have no setting of their own, that of the slots is theirs as well.
       (select jsonb_build_object('max_active_replication_origins',
                                  pg_catalog.current_setting('max_replication_slots'))
               || jsonb_object_agg(name, setting)
          from pg_catalog.pg_settings
         where name in ('wal_level', 'max_replication_slots', 'max_active_replication_origins',
                        'max_wal_senders', 'max_logical_replication_workers',
                        'max_worker_processes')) as settings,
       (select count(*)::integer from pg_catalog.pg_prepared_xacts) as prepared,
       (select coalesce(array_agg(c.oid::pg_catalog.regclass::text order by c.oid), '{}')
          from pg_catalog.pg_class as c
         where c.relnamespace::pg_catalog.regnamespace::text = any (%(schemas)s)
           and c.relkind = 'r' and c.reltuples < 0
           -- Of less than that the next reader needs none.
           and pg_catalog.pg_relation_size(c.oid) > 1048576) as unanalyzed
  from pg_catalog.pg_control_system() as server;

-- name: other_slots
-- Slots of this server that aren't courses', whether they are logical, and then whether somebody
-- consumes what they keep; those that a session keeps go when it ends.
select slot.slot_name::text, slot.slot_type = 'logical', slot.active
  from pg_catalog.pg_replication_slots as slot
 where not slot.temporary and slot.slot_name <> all (%(names)s)
 order by 1;
