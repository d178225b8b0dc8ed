-- A copy of a portal has the registry of the original, but isn't where that was claimed: a restored
-- dump is in another database, a restored server's files are not.
create or replace view pysync.portal_status as
select this_portal.portal_id,
       this_portal.system_identifier = here.system_identifier
           and this_portal.database_oid = here.database_oid as claimed,
       this_portal.claimed_at,
       (select jsonb_agg(to_jsonb(carried) - '{added_at,removal}'::text[]
                         order by carried.table_name, carried.added_at, carried.column_name)
          from pysync.carried_column as carried
         where carried.removal is null) as carried
  from pysync.this_portal
 cross join (
           select server.system_identifier, pg_database.oid as database_oid
             from pg_catalog.pg_control_system() as server
            cross join pg_catalog.pg_database
            where pg_database.datname = pg_catalog.current_database()
       ) as here;

revoke all on pysync.portal_status from public;
grant select on pysync.portal_status to pysync_owner;
comment on view pysync.portal_status is
    'Which portal this is, whether here is where it was claimed, and which columns of its own it sends.';
