create or replace function student.request_name_change(
    user_id bigint, new_name text, rationale text default ''
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform student.require_user(request_name_change.user_id);
    if coalesce(request_name_change.new_name, '') !~ '\S'
       or length(request_name_change.new_name) > 255
    then
        raise exception using
            errcode = 'PY011',
            message = format('name ''%s'' refused: it has 1 to 255 characters, not all of them '
                             'white space', left(request_name_change.new_name, 255)),
            hint = 'Choose another name.';
    end if;
    if length(request_name_change.rationale) > 1024 then
        raise exception using
            errcode = 'PY011',
            message = format('rationale of user ''%s'' refused: it has at most 1024 characters',
                             request_name_change.user_id),
            hint = 'Say it in fewer words.';
    end if;

    insert into public.student_pendingnamechange as pending (user_id, new_name, rationale)
    values (request_name_change.user_id, request_name_change.new_name,
            coalesce(request_name_change.rationale, ''))
    on conflict (user_id) do update
       set new_name = excluded.new_name,
           rationale = excluded.rationale;
end
$$;

revoke all on function student.request_name_change(bigint, text, text) from public;
comment on function student.request_name_change(bigint, text, text) is
    'Ask for another name for a user; a request that is pending already is replaced.';
