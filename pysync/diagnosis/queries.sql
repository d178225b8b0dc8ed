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

-- name: our_role
-- Who we are, whether we may do anything at all, and whether others may make subscriptions.
select rolname::text, rolsuper, pg_catalog.to_regrole('pg_create_subscription') is not null
  from pg_catalog.pg_roles
 where rolname = current_user;

-- name: grant_roles
-- Make pysync's own roles, unless another portal has, and let a role act as them.
do $$
begin
    if pg_catalog.to_regrole('pysync_fan_out') is null then
        create role pysync_fan_out nologin;
    end if;
    if pg_catalog.to_regrole('pysync_owner') is null then
        create role pysync_owner nologin;
    end if;
    grant pysync_fan_out, pysync_owner to {role};
end
$$;

-- name: grant_course_role
-- Make the role that replicated tables belong to, unless another course has, and let a role act as it.
do $$
begin
    if pg_catalog.to_regrole('pysync_course') is null then
        create role pysync_course nologin;
    end if;
    grant pysync_course to {role};
end
$$;

-- name: grant_owners
-- Make a role a member of those that own tables.
do $$
declare
    owner record;
begin
    for owner in
        select distinct r.rolname, r.rolsuper
          from unnest({tables}::text[]) as t (name)
          join pg_catalog.pg_class as c on c.oid = pg_catalog.to_regclass(t.name)
          join pg_catalog.pg_roles as r on r.oid = c.relowner
         where r.rolname <> {role}
    loop
        if owner.rolsuper then
            raise warning 'superuser % owns tables that pysync works on: give them to another role',
                owner.rolname;
        else
            execute pg_catalog.format('grant %I to %I', owner.rolname, {role});
        end if;
    end loop;
end
$$;

-- name: foreign_owners
-- Whose tables we aren't allowed to work on; a table of each.
select r.rolname::text, min(c.oid::pg_catalog.regclass::text)
  from unnest(%(tables)s::text[]) as t (name)
  join pg_catalog.pg_class as c on c.oid = pg_catalog.to_regclass(t.name)
  join pg_catalog.pg_roles as r on r.oid = c.relowner
 where not pg_catalog.pg_has_role(r.oid, 'usage')
 group by 1
 order by 1;

-- name: own_references
-- A site's own foreign keys on rows that replication deletes, and on rows that go with these. What
-- follows is the trigger on the table that is pointed at; it fires for replication if it is set so.
with recursive pointing as (
    select k.oid, k.conrelid, k.confrelid, k.confdeltype
      from pg_catalog.pg_constraint k
     where k.contype = 'f' and k.conparentid = 0
       and k.conrelid <> all (array(
               select pg_catalog.to_regclass('course.' || t.name)::pg_catalog.oid
                 from unnest(%(replicated)s::text[]) as t (name)))
), concerned as (
    select p.* from pointing p
     where p.confrelid = any (array(
               select pg_catalog.to_regclass('course.' || t.name)::pg_catalog.oid
                 from unnest(%(deleted)s::text[]) as t (name)))
     union
    select p.* from pointing p join concerned c on c.confdeltype = 'c' and p.confrelid = c.conrelid
)
select k.conname::text as name, n.nspname::text as schema, c.relname::text as table,
       rn.nspname::text as referred_schema, r.relname::text as referred_table,
       array(select a.attname::text
               from unnest(k.conkey) with ordinality as u (attnum, position)
               join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum
              order by u.position) as columns,
       array(select a.attname::text
               from unnest(k.confkey) with ordinality as u (attnum, position)
               join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.attnum
              order by u.position) as referred,
       k.confdeltype::text as on_delete,
       pg_catalog.pg_get_constraintdef(k.oid) as definition,
       trigger.tgname::text as trigger,
       trigger.tgenabled in ('A', 'R') as followed
  from concerned
  join pg_catalog.pg_constraint k on k.oid = concerned.oid
  join pg_catalog.pg_class c on c.oid = k.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class r on r.oid = k.confrelid
  join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace
  -- Of the two on that table the one for DELETE.
  join pg_catalog.pg_trigger trigger
    on trigger.tgconstraint = k.oid and trigger.tgrelid = k.confrelid and trigger.tgtype & 8 > 0
 order by 2, 3, 1;

-- name: dumping
-- Roles of people that look as if they made backups, and can't: those that may read all data, but are
-- stopped by row security; owners of tables, who may not read what pysync has beside them, unless
-- another role but superusers can. Whether row security would stop them comes with it.
with secured as (
    select exists (
               select from pg_catalog.pg_class c
                where c.relnamespace = pg_catalog.to_regnamespace('course') and c.relrowsecurity
           ) as is_so
), roles as (
    select r.rolname::text as name,
           pg_catalog.pg_has_role(r.oid, 'pg_read_all_data', 'usage') as reads,
           r.rolbypassrls or not secured.is_so as passes,
           secured.is_so,
           exists (
               select from pg_catalog.pg_class c
                where c.relnamespace = 'public'::pg_catalog.regnamespace
                  and c.relkind in ('r', 'p') and c.relowner = r.oid) as owns,
           exists (
               select from pg_catalog.pg_class c
                where c.oid = coalesce(pg_catalog.to_regclass('pysync.installed'),
                                       pg_catalog.to_regclass('course.installed'))
                  and pg_catalog.pg_has_role(r.oid, c.relowner, 'usage')) as is_ours
      from pg_catalog.pg_roles r
     cross join secured
     where r.rolcanlogin and not r.rolsuper
)
select name, reads, is_so
  from roles
 where not is_ours
   and (reads and not passes
        or owns and not reads and not exists (select from roles where reads and passes))
 order by not reads, name;

-- name: session_settings
-- What out of these settings sessions of a role begin with in this database, in seconds, and whether
-- that is said for the role; what the server has none of is left out. Said for the role here wins,
-- then for the role, for the database, for all; else it is the server's, which our own session tells
-- where it doesn't set it itself when it begins, and nothing is said for its role.
with said as (
    select split_part(entry, '=', 1) as name,
           substr(entry, strpos(entry, '=') + 1) as value,
           s.setrole, s.setdatabase
      from pg_catalog.pg_db_role_setting as s
     cross join unnest(s.setconfig) as entry
     where s.setdatabase in (0, (select d.oid from pg_catalog.pg_database as d
                                  where d.datname = pg_catalog.current_database()))
), candidates as (
    select said.name, said.value, said.setrole, said.setdatabase
      from said
     where said.setrole in (0, (select r.oid from pg_catalog.pg_roles as r
                                 where r.rolname = %(role)s))
    union all
    select known.name, known.reset_val, null, null
      from pg_catalog.pg_settings as known
     where known.source <> 'client'
       and not exists (
               select from said
                where said.name = known.name
                  and said.setrole = (select r.oid from pg_catalog.pg_roles as r
                                       where r.rolname = session_user))
), first as (
    select distinct on (candidates.name) candidates.*
      from candidates
      join pg_catalog.pg_settings as known on known.name = candidates.name
     where candidates.name = any (%(names)s)
     order by candidates.name, candidates.setrole is null,
              candidates.setrole <> 0 and candidates.setdatabase <> 0 desc,
              candidates.setrole <> 0 desc, candidates.setdatabase <> 0 desc
)
select name, value,
       extract(epoch from case when value ~ '^[0-9]+$' then value || 'ms' else value end::interval)
           ::double precision as seconds,
       coalesce(setrole <> 0, false) as of_role,
       coalesce(setrole <> 0 and setdatabase <> 0, false) as of_role_here
  from first
 order by name;

-- name: subscription_owner
-- With whose settings a subscription's workers begin; of one that isn't there yet whose they will be.
select coalesce(
           (select r.rolname::text
              from pg_catalog.pg_subscription as s
              join pg_catalog.pg_database as d on d.oid = s.subdbid
              join pg_catalog.pg_roles as r on r.oid = s.subowner
             where s.subname = %(name)s and d.datname = pg_catalog.current_database()),
           -- Up to 15 it is given to a role of its name.
           case when pg_catalog.to_regrole('pg_create_subscription') is null then %(name)s
                else current_user::text end);

-- name: connection_limit
-- How many connections a role may have; null without a limit, as for superusers.
select nullif(r.rolconnlimit, -1)
  from pg_catalog.pg_roles as r
 where r.rolname = %(role)s and not r.rolsuper;

-- name: streaming_from_portal
-- How many courses, and relays, stream from the portal as a role.
select count(*)
  from pysync.course
 where relay is null and replication_role = %(role)s and ready_at is not null;

-- name: streaming_from_relay
-- How many are connected to a relay, which has no registry.
select count(*) from pg_catalog.pg_stat_replication where usename = %(role)s;
