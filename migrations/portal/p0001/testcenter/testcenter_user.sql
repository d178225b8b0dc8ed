create or replace view student.testcenter_user
with (security_invoker = true) as
select person.id,
       person.user_id,
       contact.username,
       contact.email,
       person.candidate_id,
       person.client_candidate_id,
       person.first_name,
       person.middle_name,
       person.last_name,
       person.suffix,
       person.salutation,
       person.address_1,
       person.address_2,
       person.address_3,
       person.city,
       person.state,
       person.postal_code,
       person.country,
       person.phone,
       person.extension,
       person.phone_country_code,
       person.fax,
       person.fax_country_code,
       person.company_name,
       person.upload_status,
       person.uploaded_at,
       person.upload_error_message,
       person.created_at,
       person.updated_at,
       person.user_updated_at
  from public.student_testcenteruser as person
 cross join lateral student.contact_of_user(person.user_id) as contact;

comment on view student.testcenter_user is
    'Test-center users with the username and e-mail address of their user, for whoever may read the '
    'tables.';
