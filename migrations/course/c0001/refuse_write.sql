-- Only the portal writes replicated rows and columns. Ordinary triggers fire for local sessions and
-- not for the apply worker, so replication never meets this one.
create or replace function course.refuse_write()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    changed_columns text;
begin
    if tg_op = 'UPDATE' then
        select string_agg(format('%I', before.key), ', ' order by before.key)
          into changed_columns
          from jsonb_each(to_jsonb(old)) as before
          join jsonb_each(to_jsonb(new)) as after using (key)
         where before.key = any (tg_argv)
           and before.value <> after.value;
        raise exception using
            errcode = 'PY002',
            message = format('column %s of %I.%I can''t be changed here: it is replicated from the '
                             'portal', changed_columns, tg_table_schema, tg_table_name),
            hint = format('Change %s in the portal database; the change arrives here by itself. '
                          'Columns that this database added are free.', tg_table_name),
            schema = tg_table_schema, table = tg_table_name, column = changed_columns;
    end if;
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
    'Refuse local changes to replicated rows and columns; the trigger''s arguments name the columns.';

do $$
declare
    guarded_table regclass;
    guarded_columns text[];
    old_values text;
    new_values text;
    arguments text;
begin
    for guarded_table, guarded_columns in
        values ('course.auth_user', array['id', 'course_id', 'password', 'is_superuser', 'username',
                'first_name', 'last_name', 'email', 'is_staff', 'is_active', 'date_joined']),
               ('course.auth_userprofile', array['id', 'course_id', 'user_id', 'name', 'meta',
                'courseware', 'language', 'location', 'year_of_birth', 'gender',
                'level_of_education', 'mailing_address', 'goals']),
               ('course.student_courseenrollment', array['id', 'course_id', 'user_id', 'created']),
               ('course.mark', array['id', 'course_id', 'number', 'marked_at', 'predecessors'])
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

        -- Before the check constraint would refuse it with less to say.
        execute format(
            'create or replace trigger pysync_refuse_course_id '
            'before update on %s for each row '
            'when (old.course_id is distinct from new.course_id) '
            'execute function course.refuse_write(''course_id'')',
            guarded_table);

        -- After the update: a BEFORE trigger of the course's own may have changed columns, too.
        select string_agg(format('old.%I', column_name), ', ' order by position),
               string_agg(format('new.%I', column_name), ', ' order by position),
               string_agg(quote_literal(column_name), ', ' order by position)
          into old_values, new_values, arguments
          from unnest(guarded_columns) with ordinality as guarded (column_name, position);
        execute format(
            'create or replace trigger pysync_refuse_columns '
            'after update on %s for each row '
            'when ((%s) is distinct from (%s)) '
            'execute function course.refuse_write(%s)',
            guarded_table, old_values, new_values, arguments);
    end loop;
end
$$;
