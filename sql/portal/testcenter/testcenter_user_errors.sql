create or replace function student.testcenter_user_errors(data json)
returns table (field text, message text)
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    perform student.require_json_object(data);
    return query
    with rule (position, field, width, required, is_country_code) as (
        values
            (1, 'first_name', 30, true, false),
            (2, 'middle_name', 30, false, false),
            (3, 'last_name', 50, true, false),
            (4, 'suffix', 255, false, false),
            (5, 'salutation', 50, false, false),
            (6, 'address_1', 40, true, false),
            (7, 'address_2', 40, false, false),
            (8, 'address_3', 40, false, false),
            (9, 'city', 32, true, false),
            (10, 'state', 20, false, false),
            (11, 'postal_code', 16, false, false),
            (12, 'country', 3, true, true),
            (13, 'phone', 35, true, false),
            (14, 'extension', 8, false, false),
            (15, 'phone_country_code', 3, true, true),
            (16, 'fax', 35, false, false),
            (17, 'fax_country_code', 3, false, true),
            (18, 'company_name', 50, false, false)
    ),
    -- Of a key that is there twice, the last value counts.
    given as (
        select distinct on (pair.key) pair.key, pair.value
          from json_each(student.mask_json_for_errors(data)) with ordinality as pair (key, value, position)
         order by pair.key, pair.position desc
    ),
    filled_in as (
        select rule.*, coalesce(given.value #>> '{}', '') as value, json_typeof(given.value) as type
          from rule
          left join given on given.key = rule.field
    ),
    own as (
        select filled_in.*,
               case
                   when type not in ('string', 'null') then 'Must be text.'
                   when value = '' and required then 'This field is required.'
                   when length(value) > width then
                       format('Ensure this value has at most %s characters (it has %s).',
                              width, length(value))
                   when strpos(value, chr(1)) > 0 then 'Null characters are not allowed.'
                   when is_country_code and length(value) not in (0, 3) then
                       'Must be three characters (ISO 3166-1): e.g. USA, CAN, MNG'
               end as error
          from filled_in
    ),
    -- Rules between fields are silent about fields that are wrong by themselves.
    clean as (
        select max(own.value) filter (where own.field = 'country') as country,
               max(own.value) filter (where own.field = 'fax') as fax
          from own
         where own.error is null
    ),
    complete as (
        select own.position, own.field,
               case
                   when own.error is not null then own.error
                   when own.field in ('state', 'postal_code') and own.value = ''
                        and clean.country in ('USA', 'CAN') then
                       'Required if country is USA or CAN.'
                   when own.field = 'fax_country_code' and own.value = '' and clean.fax <> '' then
                       'Required if fax is specified.'
                   when strpos(own.value, chr(2)) > 0 then
                       'Must only use characters in Latin-1 encoding'
               end as error
          from own
         cross join clean
    )
    select complete.field, complete.error
      from complete
     where complete.error is not null
     order by complete.position;
end
$$;

revoke all on function student.testcenter_user_errors(json) from public;
comment on function student.testcenter_user_errors(json) is
    'Return all errors of a test-center user''s data, at most one per field, in the form''s order, '
    'with the messages of the 2012 form. Null counts as missing, missing as empty; unknown keys are '
    'ignored.';
