create or replace function course.enrollment_updated()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    changed_user_ids bigint[];
    left_ids bigint[];
    left_user_ids bigint[];
    left_course_ids text[];
    changed_ids bigint[];
    enrollment_ids bigint[];
    user_ids bigint[];
    course_ids text[];
begin
    if tg_relid <> 'public.student_courseenrollment'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    perform course.check_registry();

    -- A full join of the transition tables can't be planned as each row with each, whatever a
    -- session's first, small statement made the plan be. Rows that leave are somebody else's,
    -- another course's, or under another id now; or don't count any more.
    with paired as materialized (
        select before.id as old_id, before.user_id as old_user_id,
               before.course_id as old_course_id, after.id, after.user_id, after.course_id,
               (before.id, before.user_id, before.course_id)
                   is distinct from (after.id, after.user_id, after.course_id){before.uncounted} as moves
          from {old_rows.counting} as before
          full join {new_rows.counting} as after on after.id = before.id
         -- As they are stored: an application's own columns may have no equality operator.
         where (before.* *<> after.*) is not false
    ),
    leaving as materialized (
        select paired.old_id, paired.old_user_id, paired.old_course_id
          from paired
         where paired.moves
           and (select registered.fans_out
                  from pysync.course as registered
                 where registered.course_id = paired.old_course_id)
    ),
    coming as materialized (
        select paired.id, paired.user_id, paired.course_id, paired.moves
          from paired
         where (select registered.fans_out
                  from pysync.course as registered
                 where registered.course_id = paired.course_id)
    )
    select (select array_agg(member.user_id::bigint)
              from (select leaving.old_user_id from leaving
                     union
                    select coming.user_id from coming) as member (user_id)),
           (select array_agg(leaving.old_id::bigint) from leaving),
           (select array_agg(leaving.old_user_id::bigint) from leaving),
           (select array_agg(leaving.old_course_id::text) from leaving),
           (select array_agg(coming.id::bigint) from coming where not coming.moves),
           (select array_agg(coming.id::bigint) from coming where coming.moves)
      into changed_user_ids, left_ids, left_user_ids, left_course_ids, changed_ids, enrollment_ids;
    if changed_user_ids is null then
        return null;
    end if;

    -- Whoever leaves and whoever comes, all at once and so in order.
    perform course.claim_members(changed_user_ids);

    select array_agg(gone.user_id), array_agg(gone.course_id)
      into left_user_ids, left_course_ids
      from unnest(left_ids, left_user_ids, left_course_ids) as gone (id, user_id, course_id)
     -- A trigger of the application's may have put the row back.
     where (select (returned.user_id::bigint, returned.course_id::text)
              from public.student_courseenrollment as returned
             where returned.id = gone.id{returned.counts}) is distinct from (gone.user_id, gone.course_id);
    if left_user_ids is not null then
        perform course.remove_members(left_user_ids, left_course_ids);
    end if;

    if enrollment_ids is not null then
        select array_agg(enrollment.id::bigint order by enrollment.user_id),
               array_agg(enrollment.user_id::bigint order by enrollment.user_id),
               array_agg(enrollment.course_id::text order by enrollment.user_id)
          into enrollment_ids, user_ids, course_ids
          from public.student_courseenrollment as enrollment
         where enrollment.id = any (enrollment_ids){enrollment.counts}
           and (select registered.fans_out
                  from pysync.course as registered
                 where registered.course_id = enrollment.course_id);
        if user_ids is not null then
            perform course.copy_members(enrollment_ids, user_ids, course_ids);
        end if;
    end if;
    if changed_ids is not null then
        perform course.copy_enrollments(changed_ids);
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
