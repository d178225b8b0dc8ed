create or replace function course.assign_roles()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
declare
    user_ids bigint[];
    course_ids text[];
begin
    if tg_relid <> 'public.student_courseenrollment'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    if tg_op = 'INSERT' then
        select array_agg(enrollment.user_id::bigint), array_agg(enrollment.course_id::text)
          into user_ids, course_ids
          from {new_rows.counting} as enrollment;
    else
        -- A full join, which can't be planned as each row with each: see
        -- course.enrollment_updated().
        with paired as materialized (
            select after.user_id::bigint, after.course_id::text,
                   (before.user_id, before.course_id)
                       is distinct from (after.user_id, after.course_id) as moved
              from {old_rows.counting} as before
              full join {new_rows.counting} as after on after.id = before.id
        )
        select array_agg(paired.user_id), array_agg(paired.course_id)
          into user_ids, course_ids
          from paired
         where paired.moved
           and paired.user_id is not null;
    end if;

    if user_ids is not null then
        perform course.give_roles(user_ids, course_ids);
    end if;
    return null;
end
$$;

alter function course.assign_roles() owner to pysync_fan_out;
revoke all on function course.assign_roles() from public;
comment on function course.assign_roles() is
    'Enrolling in a course, or moving an enrollment there, gives the user the course''s role.';

create or replace trigger pysync_role_assigned
    after insert on public.student_courseenrollment
    referencing new table as new_rows
    for each statement
    execute function course.assign_roles();

create or replace trigger pysync_role_reassigned
    after update on public.student_courseenrollment
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function course.assign_roles();
