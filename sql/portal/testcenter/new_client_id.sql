-- 12 digits at most, and no zeros in front of fewer, as in 2012.
create or replace function student.new_client_id()
returns text
language sql
volatile
set search_path = pg_catalog, pg_temp
return 'edX' || 1 + floor(random() * 999999999999)::bigint;

revoke all on function student.new_client_id() from public;
comment on function student.new_client_id() is
    'Return a random id for a test-center user or registration, which may be in use already: '
    '"edX" and a number from 1 to 999999999999.';
