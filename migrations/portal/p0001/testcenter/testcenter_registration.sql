-- The predicates overlap, as in 2012: a registration that was accepted while its accommodation is
-- pending is both. The state is one: the test center's answer first.
create or replace view student.testcenter_registration
with (security_invoker = true) as
select registration.id,
       person.user_id,
       contact.username,
       registration.testcenter_user_id,
       person.candidate_id,
       person.client_candidate_id,
       registration.client_authorization_id,
       registration.course_id,
       registration.exam_series_code,
       registration.eligibility_appointment_date_first,
       registration.eligibility_appointment_date_last,
       registration.accommodation_request,
       registration.accommodation_code,
       case
           when is_accepted then 'accepted'
           when is_rejected then 'rejected'
           when is_pending_accommodation then 'pending accommodation'
           when is_pending_acknowledgement then 'pending acknowledgement'
       end as state,
       is_accepted,
       is_rejected,
       is_pending_accommodation,
       is_pending_acknowledgement,
       registration.upload_status,
       registration.uploaded_at,
       registration.upload_error_message,
       registration.created_at,
       registration.updated_at,
       registration.user_updated_at
  from public.student_testcenterregistration as registration
  join public.student_testcenteruser as person on person.id = registration.testcenter_user_id
 cross join lateral student.contact_of_user(person.user_id) as contact
 cross join lateral student.is_accepted(registration) as is_accepted
 cross join lateral student.is_rejected(registration) as is_rejected
 cross join lateral student.is_pending_accommodation(registration) as is_pending_accommodation
 cross join lateral student.is_pending_acknowledgement(registration) as is_pending_acknowledgement;

comment on view student.testcenter_registration is
    'Registrations with their candidate ids and states, for whoever may read the tables.';
