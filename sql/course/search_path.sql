-- Applications say auth_user, unqualified, and find course.auth_user behind their own tables.
do $$
declare
    found_setting text;
begin
    select substr(setting, length('search_path=') + 1)
      into found_setting
      from pg_catalog.pg_db_role_setting as per_database
      join pg_catalog.pg_database as this_database on this_database.oid = per_database.setdatabase
      cross join unnest(per_database.setconfig) as setting
     where this_database.datname = current_database()
       and per_database.setrole = 0
       and setting like 'search_path=%';

    if found_setting is null or found_setting = '' then
        found_setting := '"$user", public';
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
