create or replace function student.testcenter_user_needs_update(user_id bigint, data json)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    differs boolean;
begin
    perform student.require_json_object(data);
    select (present.first_name, present.middle_name, present.last_name, present.suffix,
            present.salutation, present.address_1, present.address_2, present.address_3,
            present.city, present.state, present.postal_code, present.country, present.phone,
            present.extension, present.phone_country_code, present.fax, present.fax_country_code,
            present.company_name) is distinct from
           (form.first_name, form.middle_name, form.last_name, form.suffix,
            form.salutation, form.address_1, form.address_2, form.address_3,
            form.city, form.state, form.postal_code, form.country, form.phone,
            form.extension, form.phone_country_code, form.fax, form.fax_country_code,
            form.company_name)
      into differs
      from public.student_testcenteruser as present
     cross join student.testcenter_user_fields(data) as form
     where present.user_id = testcenter_user_needs_update.user_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('test-center user of user ''%s'' doesn''t exist', user_id),
            hint = 'Create it with student.create_testcenter_user().';
    end if;
    return differs;
end
$$;

revoke all on function student.testcenter_user_needs_update(bigint, json) from public;
comment on function student.testcenter_user_needs_update(bigint, json) is
    'Tell whether any of the fields that a user provides differs from the data.';
