create or replace function student.testcenter_user_fields(
    data json,
    out first_name text,
    out middle_name text,
    out last_name text,
    out suffix text,
    out salutation text,
    out address_1 text,
    out address_2 text,
    out address_3 text,
    out city text,
    out state text,
    out postal_code text,
    out country text,
    out phone text,
    out extension text,
    out phone_country_code text,
    out fax text,
    out fax_country_code text,
    out company_name text
)
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(form.first_name, ''), coalesce(form.middle_name, ''),
           coalesce(form.last_name, ''), coalesce(form.suffix, ''),
           coalesce(form.salutation, ''), coalesce(form.address_1, ''),
           coalesce(form.address_2, ''), coalesce(form.address_3, ''),
           coalesce(form.city, ''), coalesce(form.state, ''),
           coalesce(form.postal_code, ''), coalesce(form.country, ''),
           coalesce(form.phone, ''), coalesce(form.extension, ''),
           coalesce(form.phone_country_code, ''), coalesce(form.fax, ''),
           coalesce(form.fax_country_code, ''), coalesce(form.company_name, '')
      from json_to_record(student.mask_json(data::text)) as form (
               first_name text, middle_name text, last_name text, suffix text, salutation text,
               address_1 text, address_2 text, address_3 text, city text, state text,
               postal_code text, country text, phone text, extension text,
               phone_country_code text, fax text, fax_country_code text, company_name text)
$$;

revoke all on function student.testcenter_user_fields(json) from public;
comment on function student.testcenter_user_fields(json) is
    'Return the values of a test-center user''s fields; what isn''t given is empty, and what isn''t '
    'Latin-1 is masked.';
