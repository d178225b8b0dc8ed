-- A site's migrations alter a replicated table as its owner, and nobody else ever sees it so: when
-- the transaction ends the table is pysync's again, or nothing has happened.
create or replace procedure course.lend_table(table_name text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    relation constant regclass := to_regclass(format('course.%I', lend_table.table_name));
    role_setting constant text := current_setting('role');
    borrower constant name := case role_setting when 'none' then session_user else role_setting end;
    owner constant name := (select pg_get_userbyid(relowner) from pg_class where oid = relation);
    may_create constant boolean := has_schema_privilege(borrower, 'course', 'create');
begin
    if relation is null
       or not relation = any (array[{'replicated_tables'}]::regclass[]) then
        raise exception using
            errcode = 'undefined_table',
            message = format('table course.%I isn''t replicated: there is nothing to lend', table_name),
            hint = 'Name one of the replicated tables, without its schema.';
    end if;
    if not has_function_privilege(borrower, 'course.lend_table(text)', 'execute') then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('table %s isn''t lent to role %I', relation, borrower);
    end if;
    if pg_has_role(borrower, owner, 'usage') then
        return;
    end if;
    if owner <> 'pysync_course' then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('table %s isn''t pysync''s to lend: it belongs to role %I',
                             relation, owner);
    end if;
    begin
        call course.hand_over(relation, borrower);
    exception
        when insufficient_privilege then
            raise exception using
                errcode = 'insufficient_privilege',
                message = format('table %s can''t be lent to role %I: %I, who runs pysync, has to be '
                                 'a member of it', relation, borrower, current_user),
                hint = format('Run as an administrator: grant %I to %I', borrower, current_user);
    end;
    -- For indexes.
    if not may_create then
        execute format('grant create on schema course to %I', borrower);
    end if;
    insert into course.loan (table_name, relation, borrower, may_create, write_guard)
    values (lend_table.table_name, relation, borrower, may_create, course.write_guard(relation));
end
$$;

revoke all on procedure course.lend_table(text) from public;
comment on procedure course.lend_table(text) is
    'Let the caller alter a replicated table as its owner until the transaction ends.';
