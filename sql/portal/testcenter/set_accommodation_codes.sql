create or replace function student.set_accommodation_codes(
    client_authorization_id text, codes text[]
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    refused text;
    joined text;
begin
    select string_agg(quote_nullable(given.code), ', ')
      into refused
      from unnest(codes) as given (code)
     where not exists (select from student.accommodation_code as known
                        where known.code = given.code);
    if refused is not null then
        raise exception using
            errcode = 'PY011',
            message = format('accommodation codes of registration ''%s'' refused: not in the list: '
                             '%s', client_authorization_id, refused),
            hint = 'Choose codes from student.accommodation_code.';
    end if;
    select coalesce(string_agg(given.code, '*' order by given.position), '')
      into joined
      from (select code, min(position) as position
              from unnest(codes) with ordinality as each (code, position)
             group by code) as given;
    if length(joined) > 64 then
        raise exception using
            errcode = 'PY011',
            message = format('accommodation codes of registration ''%s'' refused: at most 64 '
                             'characters, they have %s', client_authorization_id, length(joined)),
            hint = 'Choose fewer.';
    end if;

    update public.student_testcenterregistration as registration
       set accommodation_code = joined,
           user_updated_at = now()
     where registration.client_authorization_id = set_accommodation_codes.client_authorization_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('registration ''%s'' doesn''t exist', client_authorization_id),
            hint = 'Pass a client_authorization_id of student_testcenterregistration.';
    end if;
end
$$;

revoke all on function student.set_accommodation_codes(text, text[]) from public;
comment on function student.set_accommodation_codes(text, text[]) is
    'Set the accommodation codes of a registration, each from student.accommodation_code and once; '
    'the test center has to be told, so user_updated_at is set.';
