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

-- name: record
-- Remember when a course was verified and how much differed.
insert into pysync.verification as latest (course_id, verified_at, differences)
select course_id, clock_timestamp(), %(differences)s
  from pysync.course
 where course_id = %(course_id)s
    on conflict (course_id) do update
   set verified_at = excluded.verified_at, differences = excluded.differences;
