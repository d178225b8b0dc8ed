-- A profile's change at REPEATABLE READ or SERIALIZABLE has a snapshot that may be older than an
-- enrollment (then the user was written since) or an unenrollment (then the copy was). Either way
-- it fails here with 40001 and is run again. READ COMMITTED sees both and needs none of this.
create or replace function course.lock_live_copies(user_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform course.lock_members(user_ids);

    perform
       from course.auth_user as copy
      where copy.id = any (user_ids)
        and copy.live
        for share;
end
$$;

alter function course.lock_live_copies(bigint[]) owner to pysync_fan_out;
revoke all on function course.lock_live_copies(bigint[]) from public;
comment on function course.lock_live_copies(bigint[]) is
    'Fail with 40001 if these users were enrolled or unenrolled since this transaction''s snapshot.';
