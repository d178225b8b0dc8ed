create or replace function student.update_testcenter_registration(
    client_authorization_id text, accommodation_request text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if length(accommodation_request) > 1024 then
        raise exception using
            errcode = 'PY011',
            message = format('accommodation request of registration ''%s'' refused: at most 1024 '
                             'characters, it has %s',
                             client_authorization_id, length(accommodation_request)),
            hint = 'Shorten it.';
    end if;

    update public.student_testcenterregistration as registration
       set accommodation_request =
               coalesce(update_testcenter_registration.accommodation_request, ''),
           user_updated_at = now()
     where registration.client_authorization_id =
           update_testcenter_registration.client_authorization_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('registration ''%s'' doesn''t exist', client_authorization_id),
            hint = 'Pass a client_authorization_id of student_testcenterregistration.';
    end if;
end
$$;

revoke all on function student.update_testcenter_registration(text, text) from public;
comment on function student.update_testcenter_registration(text, text) is
    'Change a registration''s accommodation request as the form does, user_updated_at with it.';
