-- name: ranges
-- Hash a table, a range of keys at a time. The rows' hashes are made first, one by one.
select id >> {shift}, count(*), sha256(string_agg(hash, '' order by id)),
       sha256(convert_to(string_agg(login, ',' order by id), 'UTF8'))
  from {hashed} as hashed
 group by 1;

-- name: hashed
-- Rows by their ids, without their values.
select id::bigint as id, sha256(convert_to(row({columns})::text, 'UTF8')) as hash,
       {login} as login
  from {table}
 where {condition};

-- name: rows
-- Whole rows by their ids, each value as text.
select id::bigint, {user}::bigint, array[{columns}]
  from {table}
 where {condition}
 order by id;

-- name: fan_out_differences
-- Where a course's fan-out isn't what the source tables say.
select table_name, id, kind, columns, user_ids, expected, found
  from pysync.fan_out_differences(%(course_id)s)
 order by table_name, id;

-- name: of_nobody
-- Rows that a relay has of courses that it doesn't carry.
select id::bigint, {user}::bigint
  from {table}
 where course_id <> all ({carried}::text[])
 order by 1;

-- name: record
-- Remember since when a course was verified and how much differed, unless another verification or a
-- merge that began later has ended before.
insert into pysync.verification as latest (course_id, verified_at, differences)
select course_id, %(began_at)s, %(differences)s
  from pysync.course
 where course_id = %(course_id)s
    on conflict (course_id) do update
   set verified_at = excluded.verified_at, differences = excluded.differences
 where latest.verified_at < excluded.verified_at
returning true;

-- name: make_pointing
-- Make a place for what rows of a course's own point at.
create temporary table {pointing} on commit drop as
select {columns}, null::bigint as pysync_rows from {table} with no data;

-- name: fill_pointing
-- Put it there.
insert into {pointing}
select {columns}, count(*) from {table} where {points} group by {columns};

-- name: count_dangling
-- How many rows point at what isn't there.
select coalesce(sum(r.pysync_rows), 0)::bigint
  from {pointing} as r
 where not exists (select from {target} where {condition});

-- name: delete_dangling
-- Delete them, as their key would.
delete from {table} where {points} and not exists (select from {target} where {condition});

-- name: clear_dangling
-- Have them point nowhere, as their key would.
update {table} set ({own}) = row({nulls}) where {points} and not exists (select from {target} where {condition});
