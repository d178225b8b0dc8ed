-- Applications say auth_user, unqualified, and find course.auth_user behind their own tables.
-- What was set for all databases held here, too, until now.
do $$
declare
    found_setting text;
begin
    select substr(setting, length('search_path=') + 1)
      into found_setting
      from pg_catalog.pg_db_role_setting as stored
      left join pg_catalog.pg_database as named on named.oid = stored.setdatabase
      cross join unnest(stored.setconfig) as setting
     where (named.datname = current_database() or stored.setdatabase = 0)
       and stored.setrole = 0
       and setting like 'search_path=%'
     order by stored.setdatabase = 0
     limit 1;

    if found_setting is null then
        found_setting := '"$user", public';
    end if;
    if btrim(found_setting, '", ') = '' then
        execute format('alter database %I set search_path = course', current_database());
        return;
    end if;
    if not exists (
        select
          from regexp_split_to_table(found_setting, '\s*,\s*') as entry
         where trim(both '"' from entry) = 'course'
    ) then
        found_setting := found_setting || ', course';
    end if;
    execute format('alter database %I set search_path = %s', current_database(), found_setting);
end
$$;
