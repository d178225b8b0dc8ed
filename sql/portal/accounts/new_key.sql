-- gen_random_uuid() draws from the server's cryptographic random numbers, but 6 of a UUID's 128
-- bits are fixed, in its 13th and 17th digit. These two digits come from a second one.
create or replace function student.new_key()
returns text
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
select overlay(
           overlay(first.digits placing left(second.digits, 1) from 13)
           placing substr(second.digits, 2, 1) from 17)
  from (select replace(gen_random_uuid()::text, '-', '') as digits) as first,
       (select replace(gen_random_uuid()::text, '-', '') as digits) as second
$$;

revoke all on function student.new_key() from public;
comment on function student.new_key() is
    'Return a fresh activation key: 32 hexadecimal digits, 128 random bits.';
