create or replace function student.valid_years_of_birth()
returns setof integer
language sql
stable
set search_path = pg_catalog, pg_temp
return generate_series(
    extract(year from current_date)::integer,
    extract(year from current_date)::integer - 119,
    -1
);

revoke all on function student.valid_years_of_birth() from public;
comment on function student.valid_years_of_birth() is
    'Return the 120 years of birth that forms offer: this year first.';
