create or replace function student.is_valid_year_of_birth(year integer)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return year between extract(year from current_date)::integer - 119
                and extract(year from current_date)::integer;

revoke all on function student.is_valid_year_of_birth(integer) from public;
comment on function student.is_valid_year_of_birth(integer) is
    'Return whether student.valid_years_of_birth() has a year; NULL for NULL.';
