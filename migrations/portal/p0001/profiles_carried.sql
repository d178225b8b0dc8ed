create or replace function course.profiles_carried()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
begin
    if tg_relid <> 'pysync.profile_change'::regclass then
        perform course.refuse_elsewhere(tg_name, tg_relid);
    end if;
    -- One of several that this transaction has noted: the first one has carried them all.
    if exists (
        select
          from pysync.profile_change as change
         where change.transaction_id = new.transaction_id
           and change.id = new.id
    ) then
        perform course.carry_profiles();
    end if;
    return null;
end
$$;

alter function course.profiles_carried() owner to pysync_fan_out;
revoke all on function course.profiles_carried() from public;
comment on function course.profiles_carried() is
    'Bring a transaction''s changes of profiles to courses when it ends: see course.carry_profiles().';

drop trigger if exists pysync_profiles_carried on pysync.profile_change;
create constraint trigger pysync_profiles_carried
    after insert on pysync.profile_change
    deferrable initially deferred
    for each row execute function course.profiles_carried();
