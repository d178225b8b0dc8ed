create or replace function course.refuse_user_id_change(old_id bigint, new_id bigint)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if exists (select from course.auth_user as copy where copy.id = old_id) then
        raise exception using
            errcode = 'PY004',
            message = format('column "id" of auth_user can''t change from %s to %s: courses hold '
                             'copies of this user, and their own tables point at them',
                             old_id, new_id),
            hint = 'Insert a new user instead.';
    end if;
end
$$;

alter function course.refuse_user_id_change(bigint, bigint) owner to pysync_fan_out;
revoke all on function course.refuse_user_id_change(bigint, bigint) from public;
comment on function course.refuse_user_id_change(bigint, bigint) is
    'Refuse a new id for a user of whom courses hold copies.';
