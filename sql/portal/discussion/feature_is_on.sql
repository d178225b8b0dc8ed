create or replace function pysync.feature_is_on(feature text)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
          from pysync.setting
         where setting.name = feature
           and setting.enabled
    );
end
$$;

alter function pysync.feature_is_on(text) owner to pysync_owner;
revoke all on function pysync.feature_is_on(text) from public;
comment on function pysync.feature_is_on(text) is
    'Return whether a feature is on in pysync.setting.';
