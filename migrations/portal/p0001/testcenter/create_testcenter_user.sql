create or replace function student.create_testcenter_user(user_id bigint, data json)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    username text;
    new_id bigint;
begin
    select auth_user.username
      into username
      from public.auth_user
     where auth_user.id = create_testcenter_user.user_id;
    if not found then
        raise exception using
            errcode = 'PY010',
            message = format('user ''%s'' doesn''t exist', user_id),
            hint = 'Pass the id of a row in auth_user.';
    end if;
    perform student.require_testcenter_user(username, data);

    -- Of two sessions that draw the same id, or bring the same user, the second waits here for the
    -- first to commit. The number of attempts is there for a generator that has run dry.
    for attempt in 1 .. 1000 loop
        insert into public.student_testcenteruser as created (
            user_id, client_candidate_id, first_name, middle_name, last_name, suffix, salutation,
            address_1, address_2, address_3, city, state, postal_code, country, phone, extension,
            phone_country_code, fax, fax_country_code, company_name)
        select create_testcenter_user.user_id, student.new_client_id(), form.*
          from student.testcenter_user_fields(data) as form
            on conflict do nothing
        returning created.id into new_id;
        exit when found;
        if exists (select from public.student_testcenteruser as other
                    where other.user_id = create_testcenter_user.user_id)
        then
            raise exception using
                errcode = 'PY012',
                message = format('test-center user ''%s'' exists already', username),
                hint = 'Change it with student.update_testcenter_user().';
        end if;
    end loop;
    if new_id is null then
        raise exception using
            errcode = 'PY012',
            message = format('test-center user ''%s'' not created: every id drawn is in use',
                             username),
            hint = 'Have student.new_client_id() draw from more ids.';
    end if;
    return new_id;
end
$$;

revoke all on function student.create_testcenter_user(bigint, json) from public;
comment on function student.create_testcenter_user(bigint, json) is
    'Make a user a test-center user with a fresh client_candidate_id, from the data of the form, '
    'and return the row''s id.';
