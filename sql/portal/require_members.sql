-- Django's foreign keys are deferred, so an enrollment may come before its user. What arrives that way
-- could slip between two transactions unseen by both; it is refused instead.
create or replace function course.require_members(user_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    missing_user bigint;
begin
    select min(member.user_id)
      into missing_user
      from unnest(user_ids) as member (user_id)
     where (select portal_user.id
              from public.auth_user as portal_user
             where portal_user.id = member.user_id) is null;
    if missing_user is null then
        return;
    end if;
    if row_security_active('public.auth_user') then
        perform course.require_all_rows('public.auth_user');
    end if;
    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        -- Foreign keys look past the snapshot: checked now, they fail with 23503 if the user really
        -- doesn't exist, and a retry would be in vain.
        set constraints all immediate;
        raise exception using
            errcode = 'serialization_failure',
            message = 'the user of an enrollment isn''t in this transaction''s snapshot',
            hint = 'Run the transaction again.';
    end if;
    raise exception using
        errcode = 'foreign_key_violation',
        message = format('enrollment refused: auth_user holds no user %s', missing_user),
        hint = 'Insert the user first.',
        schema = 'public', table = 'student_courseenrollment', column = 'user_id';
end
$$;

alter function course.require_members(bigint[]) owner to pysync_fan_out;
revoke all on function course.require_members(bigint[]) from public;
comment on function course.require_members(bigint[]) is
    'Refuse enrollments whose users do not exist (23503) or are not visible to this snapshot (40001).';
