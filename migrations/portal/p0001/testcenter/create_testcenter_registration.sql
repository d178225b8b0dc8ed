create or replace function student.create_testcenter_registration(
    user_id bigint, course_id text, exam_info json, accommodation_request text default ''
)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    testcenter_user public.student_testcenteruser;
    new_id text;
begin
    select person.*
      into testcenter_user
      from public.student_testcenteruser as person
     where person.user_id = create_testcenter_registration.user_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('test-center user of user ''%s'' doesn''t exist', user_id),
            hint = 'Create it with student.create_testcenter_user().';
    end if;
    perform student.require_no_errors(
        format('registration for course ''%s''', left(course_id, 128)),
        (select json_agg(error)
           from student.testcenter_registration_errors(
                    course_id, exam_info, accommodation_request) as error),
        'Correct the fields that student.testcenter_registration_errors() lists.');

    -- As in student.create_testcenter_user.
    for attempt in 1 .. 1000 loop
        insert into public.student_testcenterregistration as created (
            testcenter_user_id, course_id, client_authorization_id, exam_series_code,
            eligibility_appointment_date_first, eligibility_appointment_date_last,
            accommodation_request)
        select testcenter_user.id,
               create_testcenter_registration.course_id,
               student.new_client_id(),
               exam."Exam_Series_Code",
               student.exam_date(exam."First_Eligible_Appointment_Date"),
               student.exam_date(exam."Last_Eligible_Appointment_Date"),
               coalesce(create_testcenter_registration.accommodation_request, '')
          from json_to_record(student.mask_json(exam_info::text)) as exam (
                   "Exam_Series_Code" text,
                   "First_Eligible_Appointment_Date" text,
                   "Last_Eligible_Appointment_Date" text)
            on conflict do nothing
        returning created.client_authorization_id into new_id;
        exit when found;
    end loop;
    if new_id is null then
        raise exception using
            errcode = 'PY012',
            message = format('registration for course ''%s'' not created: every id drawn is in use',
                             course_id),
            hint = 'Have student.new_client_id() draw from more ids.';
    end if;
    return new_id;
end
$$;

revoke all on function student.create_testcenter_registration(bigint, text, json, text) from public;
comment on function student.create_testcenter_registration(bigint, text, json, text) is
    'Register a test-center user for a course''s exam and return the fresh client_authorization_id; '
    'for exam_info see student.testcenter_registration_errors().';
