-- name: our_role
-- What the role that pysync uses may do on a portal.
select r.rolname::text as name,
       -- Null, so true, where a portal isn't migrated yet.
       coalesce(pg_catalog.has_function_privilege(
           pg_catalog.to_regprocedure('pysync.send_marks(text[])'), 'execute'), true) as may_send,
       coalesce(pg_catalog.has_table_privilege(
           pg_catalog.to_regclass('pysync.installed'), 'select'), true) as may_compare
  from pg_catalog.pg_roles r
 where r.rolname = current_user;

-- name: replication_role
-- What a role that courses' servers use may do on a portal, or on a relay; no row if it doesn't exist.
select r.rolcanlogin as logs_in, r.rolsuper or r.rolreplication as replicates,
       coalesce(r.rolvaliduntil < now(), false) as expired,
       r.rolsuper
       or pg_catalog.has_schema_privilege(r.oid, 'course', 'usage')
          and case when %(of_relay)s then true
                   else pg_catalog.has_schema_privilege(r.oid, 'pysync', 'usage')
                        and pg_catalog.has_function_privilege(
                            r.oid, 'pysync.readable_courses(name)', 'execute') end
          and not exists (
              select from unnest(%(tables)s::text[]) as t (name)
               where not pg_catalog.has_table_privilege(r.oid, 'course.' || t.name, 'select'))
           as may_read
  from pg_catalog.pg_roles r
 where r.rolname = %(name)s;

-- name: replica_identities
-- Fan-out tables of which updates would tell more, or less, than their primary key.
select c.relname::text
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'course' and c.relname = any (%(tables)s)
   and not (c.relreplident = 'd' and exists (
           select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary))
 order by 1;

-- name: unverified
-- Courses that nobody has compared with the portal for a day, nor filled, and since when.
select course.course_id, seen.at
  from pysync.course
  left join pysync.verification using (course_id)
 cross join lateral (
           select greatest(verification.verified_at, course.ready_at) as at
       ) as seen
 where course.course_id = any (%(courses)s::text[])
   and seen.at < pg_catalog.now() - interval '1 day'
 order by seen.at, course.course_id;

-- name: spilling
-- Courses of whose decoded changes a portal, or a relay, wrote much to its disk, since when, how much of how
-- much, and a size that would have held most of these transactions.
select course.course_id, coalesce(decoded.stats_reset, course.ready_at) as since,
       pg_catalog.pg_size_pretty(decoded.spill_bytes) as spilled,
       pg_catalog.pg_size_pretty(decoded.total_bytes) as decoded, decoded.spill_txns as transactions,
       -- Four times the mean, as a power of two: in memory they take more than on disk.
       (2 ^ pg_catalog.ceil(pg_catalog.log(2, greatest(
           4 * decoded.spill_bytes::numeric / decoded.spill_txns / 1048576, 128))))::bigint as megabytes
  from unnest(%(courses)s::text[], %(names)s::text[], %(since)s::timestamptz[])
       as course (course_id, replication_name, ready_at)
  join pg_catalog.pg_stat_replication_slots as decoded
    on decoded.slot_name = course.replication_name
 where decoded.spill_txns > 0
   and decoded.spill_bytes >= %(least_bytes)s
   and decoded.spill_bytes >= %(least_share)s * decoded.total_bytes
 order by course.course_id;

-- name: unindexed
-- Foreign keys on replicated tables without an index: each deletion reads the whole table.
select k.conrelid::pg_catalog.regclass::text as table, k.conname::text as name,
       k.confrelid::pg_catalog.regclass::text as target,
       (select pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by u.position)
          from unnest(k.conkey) with ordinality as u (attnum, position)
          join pg_catalog.pg_attribute a
            on a.attrelid = k.conrelid and a.attnum = u.attnum) as columns
  from pg_catalog.pg_constraint k
 where k.contype = 'f'
   and k.confrelid = any (
           select pg_catalog.to_regclass(%(schema)s || '.' || t.name)
             from unnest(%(tables)s::text[]) as t (name))
   and not exists (
           select from pg_catalog.pg_index i
            where i.indrelid = k.conrelid and i.indisvalid and i.indpred is null
              and (i.indkey::int2[])[0:pg_catalog.cardinality(k.conkey) - 1] @> k.conkey)
 order by 1, 2;

-- name: triggers_for_replication
-- A course's own triggers that fire for the apply worker; ours are compared with what was made.
select c.relname::text, t.tgname::text
  from pg_catalog.pg_trigger t
  join pg_catalog.pg_class c on c.oid = t.tgrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'course' and c.relname = any (%(tables)s)
   and t.tgenabled in ('A', 'R') and not t.tgisinternal and not t.tgname ^@ 'pysync_'
 order by 1, 2;

-- name: our_plain_connection
-- True if our own connection comes from another machine, without TLS; else no row.
select true
  from pg_catalog.pg_stat_ssl s
 where s.pid = pg_catalog.pg_backend_pid() and not s.ssl
   and not pg_catalog.inet_client_addr() <<= any (%(local)s::inet[]);

-- name: plain_walsenders
-- Slots whose subscriptions are connected from other machines, without TLS; who isn't in
-- pg_read_all_stats sees none.
select slot.slot_name::text
  from pg_catalog.pg_replication_slots slot
  join pg_catalog.pg_stat_ssl s on s.pid = slot.active_pid
  join pg_catalog.pg_stat_replication sender on sender.pid = slot.active_pid
 where slot.slot_name = any (%(names)s) and not s.ssl
   and not sender.client_addr <<= any (%(local)s::inet[]);

-- name: code_of_others
-- What on replicated tables that are pysync's would run code of others.
select c.oid::pg_catalog.regclass::text, code
  from pg_catalog.pg_class c
  join pg_catalog.pg_roles r on r.oid = c.relowner and r.rolname = 'pysync_course'
 cross join lateral course.code_of_others(c.oid::pg_catalog.regclass) as code
 where c.oid = any (%(tables)s::text[]::pg_catalog.regclass[])
 order by 1, 2;

-- name: may_put_code
-- Who else may put triggers, or checks of foreign keys, on replicated tables that are pysync's.
select c.oid::pg_catalog.regclass::text, coalesce(grantee.rolname::text, 'public')
  from pg_catalog.pg_class c
  join pg_catalog.pg_roles r on r.oid = c.relowner and r.rolname = 'pysync_course'
 cross join lateral pg_catalog.aclexplode(c.relacl) as granted
  left join pg_catalog.pg_roles grantee on grantee.oid = granted.grantee
 where c.oid = any (%(tables)s::text[]::pg_catalog.regclass[])
   and granted.privilege_type in ('REFERENCES', 'TRIGGER')
   and granted.grantee <> c.relowner
   and not coalesce(grantee.rolsuper, false)
 group by 1, 2
 order by 1, 2;

-- name: slots_that_stay
-- Slots out of these that don't fail over, and could; up to 17 none can with two_phase.
select slot.slot_name::text
  from pg_catalog.pg_replication_slots as slot
 where slot.slot_name = any (%(names)s)
   and not (to_jsonb(slot) ->> 'failover')::boolean
   and (to_jsonb(slot) ? 'two_phase_at' or not slot.two_phase);

-- name: readers
-- Roles that can log in and read replicated rows, and by what. Who may act as a superuser is as good
-- as one; so is, where CREATEROLE may give any role's membership, whoever has that.
with roles as (
    select r.*,
           exists (select from pg_catalog.pg_roles as s
                    where s.rolsuper and pg_catalog.pg_has_role(r.oid, s.oid, 'member')) as is_super,
           r.rolcreaterole
               and pg_catalog.current_setting('createrole_self_grant', true) is null as gives_roles,
           exists (select from pg_catalog.pg_roles as s
                    where s.rolbypassrls and pg_catalog.pg_has_role(r.oid, s.oid, 'member'))
               as bypasses,
           pg_catalog.has_schema_privilege(r.oid, 'course', 'usage')
               and exists (
                   select from unnest(%(tables)s::text[]) as t (name)
                    where pg_catalog.has_any_column_privilege(r.oid, 'course.' || t.name, 'select'))
               as selects,
           array(select p.name
                   from unnest(array['pg_read_all_data', 'pg_read_server_files',
                                     'pg_execute_server_program']) as p (name)
                  where pg_catalog.pg_has_role(r.oid, p.name, 'member')) as memberships
      from pg_catalog.pg_roles as r
     where r.rolcanlogin and r.rolconnlimit <> 0
), reading as (
    select roles.*,
           array_remove(array[
               case when is_super then 'superuser' end,
               case when not is_super and rolreplication then 'replication' end,
               case when not is_super and gives_roles then 'createrole' end,
               case when not is_super and bypasses then 'bypassrls' end,
               case when not is_super and selects then 'select' end], null)
               || case when is_super then '{}' else memberships end as by
      from roles
)
select rolname::text as role,
       is_super or rolreplication or gives_roles
           or memberships && array['pg_read_server_files', 'pg_execute_server_program'] as replicates,
       is_super or selects or gives_roles as selects,
       is_super or bypasses as passes_row_security,
       by
  from reading
 where by && array['superuser', 'replication', 'createrole', 'select', 'pg_read_all_data',
                   'pg_read_server_files', 'pg_execute_server_program']
    or rolname = any (%(used)s::text[])
 order by rolname <> all (%(used)s::text[]), rolname;

-- name: other_databases
-- The databases beside this one.
select datname::text
  from pg_catalog.pg_database
 where not datistemplate and datname <> pg_catalog.current_database()
 order by 1;

-- name: admitted
-- The lines of pg_hba.conf that admit a role, in their order: an earlier one that doesn't fit it
-- otherwise hides none.
select rule.line_number, rule.type, pg_catalog.array_to_string(rule.database, ','), rule.address,
       rule.auth_method
  from pg_catalog.pg_hba_file_rules as rule
 where rule.auth_method <> 'reject'
   and exists (
           select
             from unnest(rule.user_name) as listed (name)
            where listed.name in ('all', %(role)s)
               or listed.name ^@ '+' and pg_catalog.to_regrole(
                      pg_catalog.quote_ident(substr(listed.name, 2))) is not null
                  and pg_catalog.pg_has_role(%(role)s, substr(listed.name, 2), 'member'))
 order by rule.line_number;
