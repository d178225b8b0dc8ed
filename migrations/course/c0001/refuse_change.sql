-- The triggers name no columns: PostgreSQL wouldn't change their types then. Only replicated ones are
-- looked at, as they are stored: a site's own may be of any type. Each query names its table, of which
-- it reads no row: a session keeps an expression's plan, with the types that OLD and NEW had, but a
-- query's only until a table that it names is altered.
create or replace function course.refuse_change()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    old_values jsonb;
    new_values jsonb;
    changed_columns text;
begin
    case tg_table_name
        when 'auth_user' then
            select to_jsonb(before.*), to_jsonb(after.*)
              into old_values, new_values
              from (select from course.auth_user where false union all select) as one_row
             cross join lateral (select old.id, old.course_id, old.password, old.is_superuser,
                                 old.username, old.first_name, old.last_name, old.email,
                                 old.is_staff, old.is_active, old.date_joined) as before
             cross join lateral (select new.id, new.course_id, new.password, new.is_superuser,
                                 new.username, new.first_name, new.last_name, new.email,
                                 new.is_staff, new.is_active, new.date_joined) as after
             where before.* *<> after.*;
        when 'auth_userprofile' then
            select to_jsonb(before.*), to_jsonb(after.*)
              into old_values, new_values
              from (select from course.auth_userprofile where false union all select) as one_row
             cross join lateral (select old.id, old.course_id, old.user_id, old.name, old.meta,
                                 old.courseware, old.language, old.location, old.year_of_birth,
                                 old.gender, old.level_of_education, old.mailing_address,
                                 old.goals) as before
             cross join lateral (select new.id, new.course_id, new.user_id, new.name, new.meta,
                                 new.courseware, new.language, new.location, new.year_of_birth,
                                 new.gender, new.level_of_education, new.mailing_address,
                                 new.goals) as after
             where before.* *<> after.*;
        when 'student_courseenrollment' then
            select to_jsonb(before.*), to_jsonb(after.*)
              into old_values, new_values
              from (select from course.student_courseenrollment where false union all select) as one_row
             cross join lateral (select old.id, old.course_id, old.user_id, old.created) as before
             cross join lateral (select new.id, new.course_id, new.user_id, new.created) as after
             where before.* *<> after.*;
        when 'mark' then
            select to_jsonb(before.*), to_jsonb(after.*)
              into old_values, new_values
              from (select from course.mark where false union all select) as one_row
             cross join lateral (select old.id, old.course_id, old.number, old.marked_at,
                                 old.predecessors) as before
             cross join lateral (select new.id, new.course_id, new.number, new.marked_at,
                                 new.predecessors) as after
             where before.* *<> after.*;
    end case;
    if old_values is null then
        return null;
    end if;

    select string_agg(quote_ident(before.key), ', ' order by before.key)
      into changed_columns
      from jsonb_each(old_values) as before
      join jsonb_each(new_values) as after on after.key = before.key
     where before.value <> after.value;
    if changed_columns is null then
        return null;
    end if;
    raise exception using
        errcode = 'PY002',
        message = format('column %s of %I.%I can''t be changed here: it is replicated from the '
                         'portal', changed_columns, tg_table_schema, tg_table_name),
        hint = format('Change %s in the portal database; the change arrives here by itself. '
                      'Columns that this database added are free.', tg_table_name),
        schema = tg_table_schema, table = tg_table_name, column = changed_columns;
end
$$;

revoke all on function course.refuse_change() from public;
comment on function course.refuse_change() is
    'Refuse local changes to replicated columns.';
