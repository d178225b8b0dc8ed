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
