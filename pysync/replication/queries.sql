-- name: slot
-- A slot by its name: whether it is a logical one of this database's.
select plugin, database, database = current_database()
  from pg_catalog.pg_replication_slots
 where slot_name = %(name)s;

-- name: slot_is_usable
-- Whether a slot has all the WAL that it is to have.
select wal_status is distinct from 'lost'
  from pg_catalog.pg_replication_slots
 where slot_name = %(name)s;

-- name: confirmed_position
-- What a slot that nobody uses has confirmed, in bytes of the WAL.
select (confirmed_flush_lsn - '0/0')::bigint
  from pg_catalog.pg_replication_slots
 where slot_name = %(name)s and not active;

-- name: slots_of_course
-- A course's own slots and those of its tables' first copies.
select slot_name::text
  from pg_catalog.pg_replication_slots
 where (slot_name = any (%(names)s) or slot_name ~ %(pattern)s)
   and database = current_database();

-- name: options_of_slot
-- What a copy of slots lacks, where it is set on them or wanted, and whether a slot can be altered
-- so: on servers that have the column named second.
select option.name, bool_or(to_jsonb(slot) ? option.since)
  from (values ('failover', 'failover'), ('two_phase', 'two_phase_at')) as option (name, since)
  join pg_catalog.pg_replication_slots as slot
    on slot.slot_name = any (%(slots)s) and to_jsonb(slot) ? option.name
 where (to_jsonb(slot) ->> option.name)::boolean or option.name = any (%(wanted)s)
 group by option.name;

-- name: set_two_phase
-- Have a slot decode prepared transactions from where it stands, which it does for good once
-- somebody has asked for them: up to 17 there is no other way. Nothing is consumed.
select count(*)
  from pg_catalog.pg_logical_slot_peek_binary_changes(
           %(slot)s, '0/1', null, 'proto_version', '3', 'publication_names', 'none',
           'two_phase', 'on');

-- name: slots_fail_over
-- Whether this server has slots that fail over.
select pg_catalog.to_regprocedure('pg_catalog.pg_create_logical_replication_slot'
                                  '(name, name, boolean, boolean, boolean)') is not null;

-- name: slot_fails_over
-- Whether a slot is one that fails over, and whether it can be: up to 17 it isn't with two_phase.
select (to_jsonb(slot) ->> 'failover')::boolean,
       to_jsonb(slot) ? 'failover' and (to_jsonb(slot) ? 'two_phase_at' or not slot.two_phase)
  from pg_catalog.pg_replication_slots as slot
 where slot.slot_name = %(name)s;

-- name: awaited_standbys
-- Of the slots that have to confirm before anything is sent to those that fail over, the ones that
-- no standby uses, and the others.
with listed as (
    select btrim(each, ' "') as name
      from unnest(string_to_array(
               pg_catalog.current_setting('synchronized_standby_slots', true), ',')) as each
)
select coalesce(string_agg(listed.name, ', ') filter (where slot.slot_name is null), ''),
       coalesce(string_agg(listed.name, ', ') filter (where slot.slot_name is not null), '')
  from listed
  left join pg_catalog.pg_replication_slots as slot
    on slot.slot_name = listed.name and slot.slot_type = 'physical' and slot.active
 where listed.name <> '';

-- name: standbys_slots
-- Slots of these names on a standby; one that is still temporary, or was invalidated, is of no use.
select slot.slot_name::text as name,
       coalesce((to_jsonb(slot) ->> 'synced')::boolean, false) as synchronized,
       coalesce((to_jsonb(slot) ->> 'synced')::boolean, false) and not slot.temporary
           and to_jsonb(slot) ->> 'invalidation_reason' is null as ready
  from pg_catalog.pg_replication_slots as slot
 where slot.slot_name = any (%(names)s);

-- name: standbys_settings
-- What of a standby's settings synchronization depends on; that of its connection may hold a
-- password, and only what it says of the database is told.
select name,
       case when name <> 'primary_conninfo' then setting
            when setting ~ '\mdbname\s*=|^postgres(ql)?://[^/]*/[^?]' then 'dbname'
            else '' end
  from pg_catalog.pg_settings
 where name in ('sync_replication_slots', 'hot_standby_feedback', 'primary_slot_name',
                'primary_conninfo', 'wal_level', 'max_replication_slots');

-- name: settings_of_subscriptions
-- Which of these settings of a subscription this server has.
select attname::text
  from pg_catalog.pg_attribute
 where attrelid = 'pg_catalog.pg_subscription'::regclass and attname = any (%(names)s);

-- name: end_slots_walsender
-- End the process that uses a slot.
select pg_catalog.pg_terminate_backend(active_pid)
  from pg_catalog.pg_replication_slots
 where slot_name = %(name)s and active_pid is not null;

-- name: subscription
-- The subscription of a name in this database: pg_subscription lists those of all databases.
select s.oid::bigint, s.subenabled as enabled, s.subslotname::text as slot_name,
       count(r.srrelid) as tables, count(*) filter (where r.srsubstate = 'r') as ready
  from pg_catalog.pg_subscription s
  join pg_catalog.pg_database d on d.oid = s.subdbid and d.datname = current_database()
  left join pg_catalog.pg_subscription_rel r on r.srsubid = s.oid
 where s.subname = %(name)s
 group by s.oid;

-- name: settings
-- Owner and settings of the subscription of a name.
select r.rolname::text, {columns}
  from pg_catalog.pg_subscription s
  join pg_catalog.pg_database d on d.oid = s.subdbid and d.datname = current_database()
  join pg_catalog.pg_roles r on r.oid = s.subowner
 where s.subname = %(name)s;

-- name: may_own
-- Whether what we make is to be given to a role: one that is there, and isn't ours. Up to 15 only
-- superusers own subscriptions, or the role that their workers are given.
select true
  from pg_catalog.pg_roles
 where rolname = %(owner)s and rolname <> current_user
   and pg_catalog.to_regrole('pg_create_subscription') is not null;

-- name: foreign_subscription
-- Another subscription to our tables. pg_subscription_rel lists this database's only; but one that
-- was made from a template has what it lists from there.
select s.subname::text
  from pg_catalog.pg_subscription_rel r
  join pg_catalog.pg_subscription s on s.oid = r.srsubid
  join pg_catalog.pg_database d on d.oid = s.subdbid and d.datname = current_database()
 where s.subname <> %(name)s
   and r.srrelid = pg_catalog.to_regclass('course.auth_user');

-- name: restrict_worker
-- Up to 15 a worker has the rights of its subscription's owner, a superuser's, and so has the code
-- that a site hangs on its tables. Later versions take each table's owner's. So the subscription is
-- given to a role that may write the replicated tables, and nobody can log in as: its workers don't
-- count as connections. Defaults and triggers of a site's columns need what the site's role may do;
-- of sites that differ none is lent the other's.
do $$
declare
    found record;
begin
    if exists (select from pg_catalog.pg_attribute
                where attrelid = 'pg_catalog.pg_subscription'::regclass
                  and attname = 'subrunasowner') then
        alter subscription {role} set (run_as_owner = false);
        return;
    end if;
    if pg_catalog.to_regrole(pg_catalog.quote_ident({name})) is null then
        create role {role} login connection limit 0;
    end if;
    grant usage on schema course to {role};
    for found in
        with tables as (
            select c.oid
              from unnest({tables}::text[]) as name
              join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass('course.' || name)
        )
        select format('grant select, insert, update, delete on %s to {role}',
                      tables.oid::regclass) as statement
          from tables
        union all
        select format('grant usage on sequence %s to {role}', s.oid::regclass)
          from tables
          join pg_catalog.pg_attrdef filled on filled.adrelid = tables.oid
          join pg_catalog.pg_depend d
            on d.classid = 'pg_catalog.pg_attrdef'::regclass and d.objid = filled.oid
           and d.refclassid = 'pg_catalog.pg_class'::regclass
          join pg_catalog.pg_class s on s.oid = d.refobjid and s.relkind = 'S'
    loop
        execute found.statement;
    end loop;
    for found in
        with owners as (
            select array_agg(distinct c.relowner) as oids
              from unnest({tables}::text[]) as name
              join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass('course.' || name)
              join pg_catalog.pg_roles r
                on r.oid = c.relowner and not r.rolsuper and r.rolname <> 'pysync_course'
        ), wanted as (
            select oids[1] as oid from owners where pg_catalog.cardinality(oids) = 1
        ), present as (
            select m.roleid as oid
              from pg_catalog.pg_auth_members m
             where m.member = pg_catalog.to_regrole(pg_catalog.quote_ident({name}))
        )
        select format('grant %s to {role}', wanted.oid::regrole) as statement
          from wanted
         where wanted.oid not in (select present.oid from present)
        union all
        select format('revoke %s from {role}', present.oid::regrole)
          from present
         where present.oid not in (select wanted.oid from wanted)
        union all
        -- Superusers' tables have no policies for their owners, nor have pysync's.
        select case when oids is null then 'alter role {role} bypassrls'
                    else 'alter role {role} nobypassrls' end
          from owners
    loop
        execute found.statement;
    end loop;
    -- A subscription is given to superusers only, who needn't stay so.
    alter role {role} superuser;
    alter subscription {role} owner to {role};
    alter role {role} nosuperuser;
end $$;

-- name: end_subscriptions_workers
-- End the processes of a subscription that we may end, and return whose the others are, which wait for
-- a lock; one that has just begun is nobody's yet.
select case when may.do_so then pg_catalog.pg_terminate_backend(worker.pid) end as is_told,
       worker.pid, r.rolname::text, r.rolsuper, session_user::text,
       exists (select from pg_catalog.pg_locks
                where pg_locks.pid = worker.pid and not pg_locks.granted) as waits
  from pg_catalog.pg_stat_subscription as worker
  left join pg_catalog.pg_stat_activity as activity on activity.pid = worker.pid
  left join pg_catalog.pg_roles as r on r.oid = activity.usesysid
 cross join lateral (
           select me.rolsuper
                  or not r.rolsuper
                  and (pg_catalog.pg_has_role(r.oid, 'usage')
                       or pg_catalog.pg_has_role('pg_signal_backend', 'usage')) as do_so
             from pg_catalog.pg_roles as me
            where me.rolname = current_user) as may
 where worker.subid = %(oid)s and worker.pid is not null;

-- name: copy_state
-- How far the first copy of a subscription is.
select tables_total as tables, tables_ready as ready,
       coalesce(tables_uncopied, '{}') as uncopied,
       (select coalesce(sum(rows::bigint), 0)::bigint
          from jsonb_each_text(rows_copied) as per_table (name, rows)) as rows,
       coalesce(apply_errors, 0) + coalesce(sync_errors, 0) as errors
  from course.replication_status
 where subscription_name = %(name)s;

-- name: called_or_read
-- What is called or read in schema course. A site may own the replicated tables: these are read with
-- its rights.
select 'schema' as kind, n.oid, n.nspowner as owner
  from pg_catalog.pg_namespace n
 where n.nspname = 'course'
union all
select case c.relkind when 'v' then 'view' else 'table' end, c.oid, c.relowner
  from pg_catalog.pg_class c
 where c.relnamespace = pg_catalog.to_regnamespace('course')
   and c.relname in ('adoption', 'alembic_version', 'carried_column', 'installed', 'loan',
                     'mark', 'missing_mark', 'replication_status', 'this_course')
union all
select 'routine', p.oid, p.proowner
  from pg_catalog.pg_proc p
 where p.pronamespace = pg_catalog.to_regnamespace('course')
   and p.proname in ('code_of_others', 'give_back', 'hand_over', 'lend_table',
                     'note_missing_marks', 'own_table', 'refuse_change', 'refuse_write',
                     'take_back', 'take_over', 'wait_for', 'write_guard')

-- name: not_ours
-- Whether any of that isn't ours: mostly all is, and this asks no more of a session's first moments
-- than it takes to know.
select true
  from {objects} as object
 where pg_catalog.pg_get_userbyid(object.owner) <> current_user
 limit 1

-- name: foreign_owner
-- What of that belongs to somebody who is neither superuser nor we.
select named.what, r.rolname::text,
       pg_catalog.format('alter %s owner to %I', named.what, current_user),
       pg_catalog.to_regclass('pysync.course') is not null
  from {objects} as object
  join pg_catalog.pg_roles r on r.oid = object.owner
 cross join lateral (
           select case object.kind
                      when 'schema' then 'schema course'
                      when 'routine' then 'routine ' || object.oid::regprocedure
                      else object.kind || ' ' || object.oid::regclass
                  end as what) as named
 where not r.rolsuper and r.rolname <> current_user
 limit 1

-- name: personal_data_left
-- The users among some of whom a table holds anything.
select {user_id}::bigint
  from {table}
 where {user_id} = any (%(user_ids)s::bigint[]) and {holds};

-- name: may_see_claim
-- Whether our role may see whether a portal is claimed.
select pg_catalog.has_table_privilege(
           pg_catalog.to_regclass('pysync.portal_status')::oid, 'select');

-- name: claim_portal
-- Have this database be the portal: the same as before, or a copy that goes its own way.
update pysync.this_portal
   set portal_id = case when %(as_copy)s then pg_catalog.gen_random_uuid() else portal_id end,
       system_identifier = server.system_identifier,
       database_oid = pg_database.oid,
       claimed_at = pg_catalog.now()
  from pg_catalog.pg_control_system() as server, pg_catalog.pg_database
 where pg_database.datname = pg_catalog.current_database();

-- name: this_course
-- Whose database a course's is, and whether it is the one that was given that part.
select this_course.course_id, this_course.portal_id,
       this_course.portal_id is null
           or (this_course.system_identifier = server.system_identifier
               and this_course.database_oid = pg_database.oid) as is_original
  from course.this_course, pg_catalog.pg_control_system() as server, pg_catalog.pg_database
 where pg_database.datname = pg_catalog.current_database();

-- name: place
-- What tells a database from all others: its server, and its oid there.
select server.system_identifier, pg_database.oid::bigint
  from pg_catalog.pg_control_system() as server, pg_catalog.pg_database
 where pg_database.datname = pg_catalog.current_database();

-- name: take_course
-- Have this database be the course's, of this portal.
update course.this_course
   set portal_id = %(portal_id)s,
       system_identifier = server.system_identifier,
       database_oid = pg_database.oid
  from pg_catalog.pg_control_system() as server, pg_catalog.pg_database
 where pg_database.datname = pg_catalog.current_database()
   and (this_course.portal_id, this_course.system_identifier, this_course.database_oid)
       is distinct from (%(portal_id)s, server.system_identifier, pg_database.oid);

-- name: slot_in_use
-- Whether somebody is connected to a slot of this database.
select active_pid is not null
  from pg_catalog.pg_replication_slots
 where slot_name = %(name)s and database = pg_catalog.current_database();

-- name: connected_worker
-- The process of a subscription's that has heard from its publisher, whoever that is.
select pid
  from pg_catalog.pg_stat_subscription
 where subname = %(name)s and relid is null and last_msg_receipt_time is not null;

-- name: courses
-- The registered courses, or one of them, the portal that has them, and what is another one
-- whenever something about a course has changed.
select course.*, course.xmin::text::bigint as version, portal_status.portal_id,
       portal_status.carried
  from pysync.course
 cross join pysync.portal_status
 where course_id = coalesce(%(course_id)s, course_id)
 order by course_id;

-- name: register
-- Enter a course. A trigger waits for enrollments under way, and has later ones wait.
insert into pysync.course (course_id, replication_name, conninfo, portal_conninfo,
                           replication_role, course_system_identifier, course_database_oid,
                           adopts, durable, relay)
values (%(course_id)s, %(replication_name)s, %(conninfo)s, %(portal_conninfo)s,
        %(replication_role)s, %(course_system_identifier)s, %(course_database_oid)s,
        %(adopts)s, %(durable)s, %(relay)s);

-- name: record_fingerprints
-- Remember fingerprints of courses' catalogs; rows that are locked are left as they are.
update pysync.course
   set catalog_fingerprint = seen.fingerprint
  from unnest(%(courses)s::text[], %(fingerprints)s::text[]) as seen (course_id, fingerprint)
 where course.course_id = seen.course_id
   and course.course_id in (select free.course_id from pysync.course as free
                             where free.course_id = any (%(courses)s::text[])
                               for no key update skip locked);

-- name: reregister
-- Update how an entered course and its server are reached.
update pysync.course
   set conninfo = %(conninfo)s, portal_conninfo = %(portal_conninfo)s,
       replication_role = %(replication_role)s, relay = %(relay)s,
       course_system_identifier = %(course_system_identifier)s,
       course_database_oid = %(course_database_oid)s
 where course_id = %(course_id)s;

-- name: record_losses
-- Remember that courses lack changes: those about which nothing has changed since that was seen.
update pysync.course
   set lost_at = coalesce(lost_at, now())
  from unnest(%(ids)s::text[], %(versions)s::bigint[]) as seen (id, version)
 where course_id = seen.id and course.xmin::text::bigint = seen.version;

-- name: forget_verification
-- Make what was found before now, or is being looked for, count no more.
insert into pysync.verification as latest (course_id, verified_at, differences)
values (%s, clock_timestamp(), null)
    on conflict (course_id) do update
   set verified_at = excluded.verified_at, differences = excluded.differences;

-- name: witness
-- Since when a course's server runs, and how many changes met no row there.
select pg_catalog.pg_postmaster_start_time() as server_started_at,
       (select sum(each.value::bigint)::bigint
          from pg_catalog.pg_subscription as s
          join pg_catalog.pg_database as d
            on d.oid = s.subdbid and d.datname = pg_catalog.current_database()
          join pg_catalog.pg_stat_subscription_stats as counted on counted.subid = s.oid
         cross join jsonb_each_text(to_jsonb(counted)) as each (key, value)
         where s.subname = %(name)s
           and each.key in ('confl_update_missing', 'confl_delete_missing')) as missed_changes;

-- name: merge_compare
-- How many rows a merge inserts, updates and removes.
select count(*) filter (where t.{key} is null),
       count(*) filter (where t.{key} is not null and s.{key} is not null
                          and ({ours}) is distinct from ({theirs})),
       count(*) filter (where s.{key} is null)
  from {t}
  full join {s} on {same};

-- name: merge_renamed
-- How many users must go who have the name of a user under another id.
select count(*)
  from {t}
  join {s} on s.username = t.username and s.id <> t.id
 where {leaving};

-- name: merge_make_leaving
-- Make a place for what others may point at of the rows that must go.
create temporary table {leaving_rows} on commit drop as select {columns} from {t} with no data;

-- name: merge_fill_leaving
-- Put it there.
insert into {leaving_rows} select {columns} from {t} where {leaving};

-- name: merge_analyze_leaving
-- Count it: were it unknown, joins could read a whole table for each row.
analyze {leaving_rows} ({key});

-- name: merge_pointing
-- How many rows of another table point at rows that must go.
select count(*)
  from {r} as r
  join {leaving_rows} as t on {condition};

-- name: merge_referenced
-- The rows that must go and at which another table's rows point.
select t.{key}
  from {leaving_rows} as t
 where exists (select from {r} as r where {condition})

-- name: merge_lock_leaving
-- Lock the rows that must go.
select count(*)
  from (select from {t} where {leaving} for update) as held;

-- name: merge_keep_own
-- Take what the course itself wrote into the staged rows.
update {s}
   set ({own}) = row({t_own})
  from {t}
 where {same};

-- name: merge_stage_scrubbed
-- Stage users who must stay as they are to stay.
insert into {s} ({all})
select {values}
  from {t}
 where t.{key} = any ({kept});

-- name: merge_delete
-- Remove the rows that must go.
delete from {t}
 where {leaving};

-- name: merge_give_way
-- Have rows give way that hold what is another's: a value of a kind that nobody has.
update {t}
   set {unique} = {parked}
  from {s}
 where s.{unique} = t.{unique} and s.{key} <> t.{key};

-- name: merge_update
-- Update the rows that differ.
update {t}
   set ({names}) = row({values})
  from {s}
 where {same} and ({ours}) is distinct from ({theirs});

-- name: merge_insert
-- Insert the rows that are missing.
insert into {t} ({all}) overriding system value
select {all_values}
  from {s}
 where not exists (select from {t} where {same});

-- name: carry
-- Have a relay carry courses, unless it does, and remember whose rows it hasn't got.
with added as (
    select array(select wanted.id
                   from unnest(%(courses)s::text[]) as wanted (id)
                  where wanted.id <> all (relay.carries)) as ids
      from pysync.course as relay
     where relay.course_id = %(relay)s
)
update pysync.course
   set carries = carries || added.ids,
       awaits = case when %(lacks)s then awaits || added.ids else awaits end
  from added
 where course_id = %(relay)s and added.ids <> '{}'
returning carries;

-- name: leave
-- Have a relay carry courses no more.
update pysync.course
   set carries = array(select kept.id
                         from unnest(carries) as kept (id)
                        where kept.id <> all (%(courses)s::text[])),
       awaits = array(select kept.id
                        from unnest(awaits) as kept (id)
                       where kept.id <> all (%(courses)s::text[]))
 where course_id = %(relay)s and carries && %(courses)s::text[]
returning carries;

-- name: take_turn
-- Take a turn that nobody has, or whose session is over; no row if somebody has it.
insert into pysync.turn as held (name, ticket, pid, role_name, application_name)
values (%(name)s, %(ticket)s, pg_catalog.pg_backend_pid(), session_user,
        pg_catalog.current_setting('application_name'))
on conflict (name) do update
   set ticket = excluded.ticket,
       pid = excluded.pid,
       role_name = excluded.role_name,
       application_name = excluded.application_name,
       taken_at = excluded.taken_at
 where not exists (
           select from pg_catalog.pg_locks proof
            where proof.locktype = 'advisory' and proof.granted and proof.pid = held.pid
              and (proof.classid::bigint << 32 | proof.objid::bigint) = held.ticket)
returning true;

-- name: whose_turn
-- Who has a turn: process, role, application, since when.
select pid, role_name, application_name, date_trunc('second', taken_at)::text
  from pysync.turn
 where name = %(name)s;

-- name: workers
-- A subscription's own processes: apply workers, their parallel workers, and those that copy. What
-- one waits for matters if it is a lock, or another process than the portal's walsender.
select activity.pid,
       activity.xact_start is not null or activity.backend_xid is not null as in_transaction,
       activity.xact_start as since,
       case when activity.wait_event_type in ('Lock', 'IPC') then activity.wait_event end as waits_for
  from pg_catalog.pg_stat_subscription as worker
  join pg_catalog.pg_subscription as s on s.oid = worker.subid
  join pg_catalog.pg_database as d
    on d.oid = s.subdbid and d.datname = pg_catalog.current_database()
  join pg_catalog.pg_stat_activity as activity on activity.pid = worker.pid
 where s.subname = %(name)s
 order by 1;

-- name: senders
-- The portal's processes for a course: of its stream, and of its tables' first copies; what each waits
-- for, where our role may see that.
select a.pid, a.wait_event
  from pg_catalog.pg_replication_slots as slot
  join pg_catalog.pg_stat_activity as a on a.pid = slot.active_pid
 where slot.slot_name = any (%(names)s) or slot.slot_name ~ %(pattern)s;

-- name: take_time
-- Have a session wait as long as it takes.
select pg_catalog.set_config('lock_timeout', '0', false),
       pg_catalog.set_config('idle_session_timeout', '0', false),
       pg_catalog.set_config('idle_in_transaction_session_timeout', '0', false),
       case when pg_catalog.current_setting('transaction_timeout', true) is not null
            then pg_catalog.set_config('transaction_timeout', '0', false) end;
