-- name: retaining_slots
-- Logical slots of this database with the WAL that they retain in bytes: of lost ones there is none.
select slot_name::text, active, (restart_lsn, confirmed_flush_lsn)::text,
       (pg_catalog.pg_current_wal_lsn() - restart_lsn)::bigint
  from pg_catalog.pg_replication_slots
 where slot_type = 'logical' and database = pg_catalog.current_database()
   and restart_lsn is not null and wal_status is distinct from 'lost';
