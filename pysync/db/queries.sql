-- name: references_to
-- The foreign keys that point at a table, one for all partitions of theirs.
select con.conname::text as name, n.nspname::text as schema, c.relname::text as table,
       array(select a.attname::text
               from unnest(con.conkey) with ordinality as k (attnum, position)
               join pg_catalog.pg_attribute a
                 on a.attrelid = con.conrelid and a.attnum = k.attnum
              order by k.position) as columns,
       array(select a.attname::text
               from unnest(con.confkey) with ordinality as k (attnum, position)
               join pg_catalog.pg_attribute a
                 on a.attrelid = con.confrelid and a.attnum = k.attnum
              order by k.position) as referred,
       con.confdeltype in ('c', 'n', 'd') as follows
  from pg_catalog.pg_constraint con
  join pg_catalog.pg_class c on c.oid = con.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where con.contype = 'f'
   and con.conparentid = 0
   and con.confrelid = pg_catalog.to_regclass(%(table)s)
 order by 2, 3, 1;

-- name: needs_restriction
-- Whether a role has fewer rights than we do, and so code of its own must not run with ours.
select rolname <> current_user and not rolsuper from pg_catalog.pg_roles where rolname = %s;

-- name: owner
-- A relation's owner, and whether it can use the relation by name.
select r.rolname::text, pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage'),
       pg_catalog.set_config('row_security', 'off', true)
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_roles r on r.oid = c.relowner
 where n.nspname = %s and c.relname = %s;

-- name: restricted_function
-- Run statements and say where we can read it how many rows they concerned.
create function {function}(statements text[])
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    statement text;
    affected bigint;
    total bigint := 0;
begin
    foreach statement in array statements loop
        execute statement;
        get diagnostics affected = row_count;
        total := total + affected;
    end loop;
    insert into pg_temp.pysync_affected values (total);
    return total;
end
$$;

-- name: restricted_view
-- A refresh runs this as the view's owner, security-restricted.
create materialized view {view} as select {function}({statements}) with no data;

-- name: met_by_superuser
-- Those of these tables that there are; no row unless we are a superuser.
select array(select c.relname::text
               from pg_catalog.pg_class c
              where c.relnamespace = 'public'::pg_catalog.regnamespace
                and c.relname = any (%(tables)s)
                and c.relkind in ('r', 'p', 'v', 'f')
              order by 1)
  from pg_catalog.pg_roles r
 where r.rolname = current_user and r.rolsuper;

-- name: lent_to
-- A table out of these, and who else may hang code on it.
select c.relname::text, coalesce(r.rolname::text, 'public')
  from pg_catalog.pg_class c
 cross join lateral (
           select c.relowner as oid
            union
           select a.grantee
             from pg_catalog.aclexplode(c.relacl) a
            where a.privilege_type = 'TRIGGER'
       ) as holder
  left join pg_catalog.pg_roles r on r.oid = holder.oid
 where c.relnamespace = 'public'::pg_catalog.regnamespace
   and c.relname = any (%(tables)s)
   and not coalesce(r.rolsuper, false)
 order by 1, 2
 limit 1;

-- name: own_session
-- Whether this is the session that was opened, with what was asked for: a pooler gives another one, or
-- leaves that out. What we commit in one database, and it says so, we rely on in another.
select session.is_own,
       case when session.is_own and pg_catalog.current_setting('synchronous_commit') = 'off'
            then pg_catalog.set_config('synchronous_commit', 'local', false) end,
       -- Since 17: it can't be asked for before it is known to be there.
       case when session.is_own and pg_catalog.current_setting('transaction_timeout', true) <> '0'
            then pg_catalog.set_config('transaction_timeout', '0', false) end
  from (select pg_catalog.pg_backend_pid() = %(pid)s
               and pg_catalog.current_setting('search_path') = %(search_path)s) as session (is_own);

-- name: holders
-- Whom processes wait for in the end, the one first that began first: sessions that hold locks and
-- wait for none, and prepared transactions, which have no process. Whoever waits as well, in between,
-- is followed. A prepared transaction's locks are told by those of its own number; what it holds
-- matters if it conflicts with what is wanted.
with recursive chain (pid, holder) as (
    select waiting.pid, blocking.pid
      from unnest(%(pids)s::integer[]) as waiting (pid)
     cross join lateral unnest(pg_catalog.pg_blocking_pids(waiting.pid)) as blocking (pid)
    union
    select chain.holder, blocking.pid
      from chain
     cross join lateral unnest(pg_catalog.pg_blocking_pids(chain.holder)) as blocking (pid)
     where chain.holder <> 0
), locks as materialized (
    select * from pg_catalog.pg_locks
), conflicts (wanted, held) as (
    values ('AccessShareLock', '{AccessExclusiveLock}'::text[]),
           ('RowShareLock', '{ExclusiveLock,AccessExclusiveLock}'),
           ('RowExclusiveLock', '{ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'),
           ('ShareUpdateExclusiveLock', '{ShareUpdateExclusiveLock,ShareLock,ShareRowExclusiveLock,'
                                        'ExclusiveLock,AccessExclusiveLock}'),
           ('ShareLock', '{RowExclusiveLock,ShareUpdateExclusiveLock,ShareRowExclusiveLock,'
                         'ExclusiveLock,AccessExclusiveLock}')
), prepared as (
    select distinct p.gid, p.owner, p.database, p.prepared
      from chain
      join locks as wanted on wanted.pid = chain.pid and not wanted.granted
      join locks as held
        on held.pid is null and held.granted and held.locktype = wanted.locktype
       and (held.database, held.relation, held.page, held.tuple, held.virtualxid, held.transactionid,
            held.classid, held.objid, held.objsubid)
           is not distinct from
           (wanted.database, wanted.relation, wanted.page, wanted.tuple, wanted.virtualxid,
            wanted.transactionid, wanted.classid, wanted.objid, wanted.objsubid)
      join locks as own
        on own.pid is null and own.locktype = 'transactionid'
       and own.virtualtransaction = held.virtualtransaction
      join pg_catalog.pg_prepared_xacts as p on p.transaction = own.transactionid
      left join conflicts on conflicts.wanted = wanted.mode
     where chain.holder = 0
       -- The stronger modes conflict with all but the weakest.
       and (held.mode = any (conflicts.held)
            or conflicts.held is null and held.mode <> 'AccessShareLock'
               and (wanted.mode <> 'ShareRowExclusiveLock' or held.mode <> 'RowShareLock')
            or wanted.mode = 'AccessExclusiveLock')
)
select a.pid, null as gid, a.datname::text as database,
       coalesce(nullif(a.application_name, ''), a.usename::text, a.backend_type, 'unknown') as who,
       a.state as doing, a.xact_start as since
  from pg_catalog.pg_stat_activity as a
 where a.pid <> all (%(pids)s::integer[])
   and a.pid in (select holder from chain)
   and a.pid not in (select pid from chain)
union all
select null, gid, database::text, owner::text, 'prepared', prepared
  from prepared
 order by since
 limit 1;

-- name: oldest_transaction
-- Whom the creation of a slot waits for longest, in any database of the server: a transaction that
-- has written, or is prepared.
select pid, gid, database, who, doing, since
  from (select a.pid, null as gid, a.datname::text as database,
               coalesce(nullif(a.application_name, ''), a.usename::text, a.backend_type, 'unknown')
                   as who,
               a.state as doing, a.xact_start as since,
               pg_catalog.age(a.backend_xid) as age
          from pg_catalog.pg_stat_activity as a
         where a.backend_xid is not null and a.pid <> pg_catalog.pg_backend_pid()
        union all
        select null, p.gid, p.database::text, p.owner::text, 'prepared', p.prepared,
               pg_catalog.age(p.transaction)
          from pg_catalog.pg_prepared_xacts as p) as open
 order by age desc
 limit 1;

-- name: long_transactions
-- Transactions that are open for long, of sessions those that do nothing: workers wait for their
-- locks, and whoever makes a slot for those of all databases.
select a.pid, null as gid, a.datname::text as database,
       coalesce(nullif(a.application_name, ''), a.usename::text, a.backend_type, 'unknown') as who,
       a.state as doing, a.xact_start as since
  from pg_catalog.pg_stat_activity as a
 where a.state like 'idle in transaction%%'
   and a.state_change < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %(seconds)s)
   and (a.datname = pg_catalog.current_database() or %(everywhere)s and a.backend_xid is not null)
union all
select null, p.gid, p.database::text, p.owner::text, 'prepared', p.prepared
  from pg_catalog.pg_prepared_xacts as p
 where p.prepared < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %(seconds)s)
   and (p.database = pg_catalog.current_database() or %(everywhere)s)
 order by since;

-- name: writer
-- Who has been writing in a table for the longest time.
select a.pid, p.gid, coalesce(a.datname::text, p.database::text) as database,
       coalesce(nullif(a.application_name, ''), a.usename::text, p.owner::text, 'unknown') as who,
       a.state as doing, coalesce(a.xact_start, p.prepared) as since
  from pg_catalog.pg_locks as held
  left join pg_catalog.pg_stat_activity as a on a.pid = held.pid
  left join pg_catalog.pg_locks as own
    on held.pid is null and own.pid is null and own.locktype = 'transactionid'
   and own.virtualtransaction = held.virtualtransaction
  left join pg_catalog.pg_prepared_xacts as p on p.transaction = own.transactionid
 where held.relation = %(table)s::regclass and held.granted
   and held.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock')
   and held.pid is distinct from pg_catalog.pg_backend_pid()
 order by since
 limit 1;

-- name: running_server
-- What tells a running server from others, and the timeline that it writes to, if it does.
select server.system_identifier, pg_catalog.pg_postmaster_start_time()::text as started,
       case when not pg_catalog.pg_is_in_recovery() then
           ('x' || left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8)
           )::bit(32)::integer end as timeline
  from pg_catalog.pg_control_system() as server;
