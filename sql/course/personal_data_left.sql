-- Whether an erasure has arrived: of whom this course still holds anything personal. A user whose row
-- must stay, since rows of the course point at it, holds nothing any more but an id.
create or replace function course.personal_data_left(user_ids bigint[])
returns setof bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select copy.id::bigint
      from course.auth_user as copy
     where copy.id = any (user_ids)
       and not (copy.username like 'deleted-' || copy.id || '%'
                and ({copy.scrubbed_user_columns}) is not distinct from
                    ({scrubbed_user_values}))
     union
    select profile.user_id::bigint
      from course.auth_userprofile as profile
     where profile.user_id = any (user_ids)
     union
    select enrollment.user_id::bigint
      from course.student_courseenrollment as enrollment
     where enrollment.user_id = any (user_ids)
$$;

revoke all on function course.personal_data_left(bigint[]) from public;
comment on function course.personal_data_left(bigint[]) is
    'Return the users among these of whom this course holds anything personal.';
