create or replace function student.assign_roles()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    user_ids bigint[];
    course_ids text[];
begin
    if tg_op = 'INSERT' then
        select array_agg(enrollment.user_id::bigint), array_agg(enrollment.course_id::text)
          into user_ids, course_ids
          from new_rows as enrollment;
    else
        select array_agg(after.user_id::bigint), array_agg(after.course_id::text)
          into user_ids, course_ids
          from new_rows as after
         where not exists (
             select
               from old_rows as before
              where before.id = after.id
                and before.user_id = after.user_id
                and before.course_id = after.course_id);
    end if;

    if user_ids is not null then
        perform student.give_roles(user_ids, course_ids);
    end if;
    return null;
end
$$;

alter function student.assign_roles() owner to pysync_owner;
revoke all on function student.assign_roles() from public;
comment on function student.assign_roles() is
    'Enrolling in a course, or moving an enrollment there, gives the user the course''s role.';

create or replace trigger pysync_role_assigned
    after insert on public.student_courseenrollment
    referencing new table as new_rows
    for each statement
    execute function student.assign_roles();

create or replace trigger pysync_role_reassigned
    after update on public.student_courseenrollment
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function student.assign_roles();
