create or replace function student.update_testcenter_user(user_id bigint, data json)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    perform
       from public.student_testcenteruser as present
      where present.user_id = update_testcenter_user.user_id
        for no key update;
    if not student.testcenter_user_needs_update(user_id, data) then
        return false;
    end if;
    perform student.require_testcenter_user(auth_user.username, data)
       from public.auth_user
      where auth_user.id = update_testcenter_user.user_id;
    update public.student_testcenteruser as present
       set first_name = form.first_name,
           middle_name = form.middle_name,
           last_name = form.last_name,
           suffix = form.suffix,
           salutation = form.salutation,
           address_1 = form.address_1,
           address_2 = form.address_2,
           address_3 = form.address_3,
           city = form.city,
           state = form.state,
           postal_code = form.postal_code,
           country = form.country,
           phone = form.phone,
           extension = form.extension,
           phone_country_code = form.phone_country_code,
           fax = form.fax,
           fax_country_code = form.fax_country_code,
           company_name = form.company_name,
           user_updated_at = now()
      from student.testcenter_user_fields(data) as form
     where present.user_id = update_testcenter_user.user_id;
    return true;
end
$$;

revoke all on function student.update_testcenter_user(bigint, json) from public;
comment on function student.update_testcenter_user(bigint, json) is
    'Change a test-center user''s data as the form does, user_updated_at with them, if any differ; '
    'return whether they did.';
