-- Only the portal writes replicated rows and columns. Ordinary triggers fire for local sessions and
-- not for the apply worker, so replication never meets this one.
create or replace function course.refuse_write()
returns trigger
language plpgsql
set search_path = ''
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

create or replace trigger pysync_refuse_rows
    before insert or delete on course.auth_user
    for each row
    execute function course.refuse_write();

create or replace trigger pysync_refuse_truncate
    before truncate on course.auth_user
    for each statement
    execute function course.refuse_write();

-- Before the check constraint would refuse it with less to say.
create or replace trigger pysync_refuse_course_id
    before update on course.auth_user
    for each row
    when (old.course_id is distinct from new.course_id)
    execute function course.refuse_write('course_id');

-- After the update: a BEFORE trigger of the course's own may have changed columns, too.
-- last_login is missing on purpose: a course site's own login writes it, and the portal's next
-- value wins.
create or replace trigger pysync_refuse_columns
    after update on course.auth_user
    for each row
    when (
        (old.id, old.course_id, old.password, old.is_superuser, old.username, old.first_name,
         old.last_name, old.email, old.is_staff, old.is_active, old.date_joined)
        is distinct from
        (new.id, new.course_id, new.password, new.is_superuser, new.username, new.first_name,
         new.last_name, new.email, new.is_staff, new.is_active, new.date_joined)
    )
    execute function course.refuse_write(
        'id', 'course_id', 'password', 'is_superuser', 'username', 'first_name', 'last_name',
        'email', 'is_staff', 'is_active', 'date_joined');

create or replace trigger pysync_refuse_rows
    before insert or delete on course.auth_userprofile
    for each row
    execute function course.refuse_write();

create or replace trigger pysync_refuse_truncate
    before truncate on course.auth_userprofile
    for each statement
    execute function course.refuse_write();

-- Before the check constraint would refuse it with less to say.
create or replace trigger pysync_refuse_course_id
    before update on course.auth_userprofile
    for each row
    when (old.course_id is distinct from new.course_id)
    execute function course.refuse_write('course_id');

create or replace trigger pysync_refuse_columns
    after update on course.auth_userprofile
    for each row
    when (
        (old.id, old.course_id, old.user_id, old.name, old.meta, old.courseware, old.language,
         old.location, old.year_of_birth, old.gender, old.level_of_education, old.mailing_address,
         old.goals)
        is distinct from
        (new.id, new.course_id, new.user_id, new.name, new.meta, new.courseware, new.language,
         new.location, new.year_of_birth, new.gender, new.level_of_education, new.mailing_address,
         new.goals)
    )
    execute function course.refuse_write(
        'id', 'course_id', 'user_id', 'name', 'meta', 'courseware', 'language', 'location',
        'year_of_birth', 'gender', 'level_of_education', 'mailing_address', 'goals');

create or replace trigger pysync_refuse_rows
    before insert or delete on course.student_courseenrollment
    for each row
    execute function course.refuse_write();

create or replace trigger pysync_refuse_truncate
    before truncate on course.student_courseenrollment
    for each statement
    execute function course.refuse_write();

-- Before the check constraint would refuse it with less to say.
create or replace trigger pysync_refuse_course_id
    before update on course.student_courseenrollment
    for each row
    when (old.course_id is distinct from new.course_id)
    execute function course.refuse_write('course_id');

create or replace trigger pysync_refuse_columns
    after update on course.student_courseenrollment
    for each row
    when (
        (old.id, old.course_id, old.user_id, old.created)
        is distinct from
        (new.id, new.course_id, new.user_id, new.created)
    )
    execute function course.refuse_write('id', 'course_id', 'user_id', 'created');

create or replace trigger pysync_refuse_rows
    before insert or delete on course.mark
    for each row
    execute function course.refuse_write();

create or replace trigger pysync_refuse_truncate
    before truncate on course.mark
    for each statement
    execute function course.refuse_write();

-- Before the check constraint would refuse it with less to say.
create or replace trigger pysync_refuse_course_id
    before update on course.mark
    for each row
    when (old.course_id is distinct from new.course_id)
    execute function course.refuse_write('course_id');

create or replace trigger pysync_refuse_columns
    after update on course.mark
    for each row
    when ((old.course_id, old.number, old.marked_at)
          is distinct from (new.course_id, new.number, new.marked_at))
    execute function course.refuse_write('course_id', 'number', 'marked_at');
