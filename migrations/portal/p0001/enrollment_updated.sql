create or replace function course.enrollment_updated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
#variable_conflict use_variable
declare
    changed_user_ids bigint[];
    left_ids bigint[];
    left_user_ids bigint[];
    left_course_ids text[];
    enrollment_ids bigint[];
    user_ids bigint[];
begin
    if tg_relid <> 'public.student_courseenrollment'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    perform course.check_registry();

    -- A full join of the transition tables can't be planned as each row with each, whatever a
    -- session's first, small statement made the plan be. Rows that leave are somebody else's,
    -- another course's, or under another id now.
    with paired as materialized (
        select before.id as old_id, before.user_id as old_user_id,
               before.course_id as old_course_id, after.id, after.user_id, after.course_id,
               (before.id, before.user_id, before.course_id)
                   is distinct from (after.id, after.user_id, after.course_id) as moves,
               -- As they are stored: an application's own columns may have no equality operator.
               (before *<> after) is not false as changes
          from old_rows as before
          full join new_rows as after on after.id = before.id
    ),
    leaving as (
        select paired.old_id, paired.old_user_id, paired.old_course_id, paired.moves
          from paired
          join pysync.course as registered on registered.course_id = paired.old_course_id
         where registered.fans_out
    ),
    coming as (
        select paired.id, paired.user_id, paired.changes
          from paired
          join pysync.course as registered on registered.course_id = paired.course_id
         where registered.fans_out
    )
    select (select array_agg(member.user_id)
              from (select leaving.old_user_id::bigint from leaving
                     union
                    select coming.user_id::bigint from coming) as member (user_id)),
           (select array_agg(leaving.old_id::bigint) from leaving where leaving.moves),
           (select array_agg(leaving.old_user_id::bigint) from leaving where leaving.moves),
           (select array_agg(leaving.old_course_id::text) from leaving where leaving.moves),
           (select array_agg(coming.id::bigint) from coming where coming.changes),
           (select array_agg(coming.user_id::bigint) from coming where coming.changes)
      into changed_user_ids, left_ids, left_user_ids, left_course_ids, enrollment_ids, user_ids;
    if changed_user_ids is null then
        return null;
    end if;

    -- Whoever leaves and whoever comes, all at once and so in order.
    perform course.lock_members(changed_user_ids);

    select array_agg(gone.user_id), array_agg(gone.course_id)
      into left_user_ids, left_course_ids
      from unnest(left_ids, left_user_ids, left_course_ids) as gone (id, user_id, course_id)
     -- A trigger of the application's may have put the row back.
     where not exists (
         select
           from public.student_courseenrollment as returned
          where returned.id = gone.id
            and returned.user_id = gone.user_id
            and returned.course_id = gone.course_id
     );
    if left_user_ids is not null then
        perform course.remove_members(left_user_ids, left_course_ids);
    end if;

    if enrollment_ids is not null then
        perform course.require_members(
            user_ids, course.write_members(user_ids, true), 'student_courseenrollment');
        perform course.copy_members(enrollment_ids);
    end if;
    return null;
end
$$;

alter function course.enrollment_updated() owner to pysync_fan_out;
revoke all on function course.enrollment_updated() from public;
comment on function course.enrollment_updated() is
    'An enrollment that changes user, course or id leaves one fan-out and enters another.';

create or replace trigger pysync_enrollment_updated
    after update on public.student_courseenrollment
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function course.enrollment_updated();
