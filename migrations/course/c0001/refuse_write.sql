-- Only the portal writes replicated rows and columns. Ordinary triggers fire for local sessions and
-- not for the apply worker, so replication never meets this one.
create or replace function course.refuse_write()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'PY002',
        message = format('%s on %I.%I refused: its rows are replicated from the portal',
                         tg_op, tg_table_schema, tg_table_name),
        hint = format('Change %s in the portal database; the change arrives here by itself.',
                      tg_table_name),
        schema = tg_table_schema, table = tg_table_name;
end
$$;

revoke all on function course.refuse_write() from public;
comment on function course.refuse_write() is
    'Refuse local changes to replicated rows.';

do $$
declare
    guarded_table regclass;
begin
    foreach guarded_table in array array[
        'course.auth_user', 'course.auth_userprofile', 'course.student_courseenrollment',
        'course.mark'
    ]::regclass[]
    loop
        execute format(
            'create or replace trigger pysync_refuse_rows '
            'before insert or delete on %s for each row '
            'execute function course.refuse_write()',
            guarded_table);
        execute format(
            'create or replace trigger pysync_refuse_truncate '
            'before truncate on %s for each statement '
            'execute function course.refuse_write()',
            guarded_table);
        -- After the update: a BEFORE trigger of the course's own may have changed columns, too.
        execute format(
            'create or replace trigger pysync_refuse_columns '
            'after update on %s for each row '
            'when (old.* *<> new.*) '
            'execute function course.refuse_change()',
            guarded_table);
    end loop;
end
$$;
