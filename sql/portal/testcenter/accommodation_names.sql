create or replace function student.accommodation_names(accommodation_code text)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
return array(
    select coalesce(known.display_name, given.code)
      from unnest(string_to_array(accommodation_names.accommodation_code, '*'))
               with ordinality as given (code, position)
      left join student.accommodation_code as known on known.code = given.code
     order by given.position
);

revoke all on function student.accommodation_names(text) from public;
comment on function student.accommodation_names(text) is
    'Return the display names of codes that are delimited by *, in their order.';
