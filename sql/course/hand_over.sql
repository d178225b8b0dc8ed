create or replace procedure course.hand_over(relation regclass, role_name name)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    may_create constant boolean := has_schema_privilege(role_name, 'course', 'create');
begin
    -- Others than superusers give away only what the new owner could have made there.
    if not may_create then
        execute format('grant create on schema course to %I', role_name);
    end if;
    execute format('alter table %s owner to %I', relation, role_name);
    if not may_create then
        execute format('revoke create on schema course from %I', role_name);
    end if;
end
$$;

revoke all on procedure course.hand_over(regclass, name) from public;
comment on procedure course.hand_over(regclass, name) is
    'Give a table to a role, which may create nothing beside it.';
