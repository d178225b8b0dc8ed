create or replace function course.enrollment_updated()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    enrollment_ids bigint[];
    user_ids bigint[];
    course_ids text[];
begin
    perform course.check_registry();

    -- Whoever leaves and whoever comes, all at once and so in order.
    select array_agg(changed.user_id::bigint)
      into user_ids
      from (
          select before.user_id
            from old_rows as before
            join pysync.course as registered on registered.course_id = before.course_id
           where registered.fans_out
           union
          select after.user_id
            from new_rows as after
            join pysync.course as registered on registered.course_id = after.course_id
           where registered.fans_out
      ) as changed;
    if user_ids is null then
        return null;
    end if;
    perform course.lock_members(user_ids);

    -- Rows that are somebody else's, another course's, or under another id now.
    select array_agg(before.user_id::bigint), array_agg(before.course_id::text)
      into user_ids, course_ids
      from old_rows as before
      join pysync.course as registered on registered.course_id = before.course_id
     where registered.fans_out
       and not exists (
           select
             from new_rows as after
            where after.id = before.id
              and after.user_id = before.user_id
              and after.course_id = before.course_id
       )
       -- A trigger of the application's may have put the row back.
       and not exists (
           select
             from public.student_courseenrollment as returned
            where returned.id = before.id
              and returned.user_id = before.user_id
              and returned.course_id = before.course_id
       );
    if user_ids is not null then
        perform course.remove_members(user_ids, course_ids);
    end if;

    select array_agg(after.id::bigint), array_agg(after.user_id::bigint)
      into enrollment_ids, user_ids
      from new_rows as after
      join pysync.course as registered on registered.course_id = after.course_id
     where registered.fans_out
       and not exists (
           select
             from old_rows as before
            where before.id = after.id
              and before is not distinct from after
       );
    if enrollment_ids is not null then
        perform course.require_members(
            user_ids, course.write_members(user_ids, true), 'student_courseenrollment');
        perform course.copy_members(enrollment_ids);
    end if;
    return null;
end
$$;

alter function course.enrollment_updated() owner to pysync_owner;
revoke all on function course.enrollment_updated() from public;
comment on function course.enrollment_updated() is
    'An enrollment that changes user, course or id leaves one fan-out and enters another.';

create or replace trigger pysync_enrollment_updated
    after update on public.student_courseenrollment
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function course.enrollment_updated();
