create or replace function student.testcenter_registration_errors(
    course_id text, exam_info json, accommodation_request text
)
returns table (field text, message text)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    perform student.require_json_object(exam_info);
    return query
    with given as (
        select distinct on (pair.key) pair.key, pair.value
          from json_each(student.mask_json_for_errors(exam_info)) with ordinality
                   as pair (key, value, position)
         order by pair.key, pair.position desc
    ),
    filled_in (position, field, value, type, width, required, kind) as (
        values (1, 'course_id', course_id, 'string', 128, true, 'text'),
               (5, 'accommodation_request', accommodation_request, 'string', 1024, false, 'text')
         union all
        select exam.position, exam.field, given.value #>> '{}', json_typeof(given.value), 15, true,
               exam.kind
          from (values (2, 'Exam_Series_Code', 'latin1'),
                       (3, 'First_Eligible_Appointment_Date', 'date'),
                       (4, 'Last_Eligible_Appointment_Date', 'date'))
                   as exam (position, field, kind)
          left join given on given.key = exam.field
    ),
    own as (
        select filled_in.*,
               case
                   when type not in ('string', 'null') then 'Must be text.'
                   when coalesce(value, '') = '' then
                       case when required then 'This field is required.' end
                   when kind = 'date' then
                       case when student.exam_date(value) is null then
                           'Enter a valid date: YYYY-MM-DD.'
                       end
                   when length(value) > width then
                       format('Ensure this value has at most %s characters (it has %s).',
                              width, length(value))
                   when kind = 'latin1' and strpos(value, chr(1)) > 0 then
                       'Null characters are not allowed.'
                   when kind = 'latin1' and strpos(value, chr(2)) > 0 then
                       'Must only use characters in Latin-1 encoding'
               end as error
          from filled_in
    ),
    clean as (
        select max(student.exam_date(own.value)) filter (where own.position = 3) as first
          from own
         where own.kind = 'date'
           and own.error is null
    ),
    complete as (
        select own.position, own.field,
               case
                   when own.error is not null then own.error
                   when own.position = 4 and student.exam_date(own.value) < clean.first then
                       'Must not be before First_Eligible_Appointment_Date.'
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

revoke all on function student.testcenter_registration_errors(text, json, text) from public;
comment on function student.testcenter_registration_errors(text, json, text) is
    'Return all errors of what a registration is made from, at most one per field. exam_info holds '
    'Exam_Series_Code, First_Eligible_Appointment_Date and Last_Eligible_Appointment_Date, dates as '
    'YYYY-MM-DD; other keys are ignored.';
