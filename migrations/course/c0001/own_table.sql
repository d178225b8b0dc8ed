-- Who had the table goes on reading and writing it, under the write guard. Nobody keeps TRIGGER, nor
-- REFERENCES: a foreign key's check runs as the owner of what it points at, casts of others included.
create or replace procedure course.own_table(relation regclass)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    before constant name := (select pg_get_userbyid(relowner) from pg_class where oid = relation);
    grantee text;
    revoked text;
    found text;
begin
    if before <> 'pysync_course' then
        call course.hand_over(relation, 'pysync_course');
    end if;
    if not pg_has_role(before, 'pysync_course', 'usage') then
        execute format('grant select, insert, update, delete on %s to %I', relation, before);
    end if;
    loop
        select case granted.grantee
                   when 0 then 'public'
                   else quote_ident(pg_get_userbyid(granted.grantee))
               end
          into grantee
          from pg_catalog.pg_class as owned
         cross join lateral (
                   select * from aclexplode(owned.relacl)
                    union all
                   select on_column.*
                     from pg_catalog.pg_attribute as owned_column
                    cross join aclexplode(owned_column.attacl) as on_column
                    where owned_column.attrelid = owned.oid
               ) as granted
         where owned.oid = relation
           and granted.privilege_type in ('REFERENCES', 'TRIGGER')
           and granted.grantee <> owned.relowner
         order by 1
         limit 1;
        exit when grantee is null;
        if grantee = revoked then
            -- A member of one who may grant it, too, doesn't revoke as the owner.
            raise exception using
                errcode = 'PY008',
                message = format('table %s can''t belong to pysync: role %s keeps TRIGGER or '
                                 'REFERENCES on it', relation, grantee),
                hint = 'Revoke that as the table''s owner.';
        end if;
        execute format('revoke trigger, references on %s from %s cascade', relation, grantee);
        revoked := grantee;
    end loop;
    select string_agg(code, '; ') into found from course.code_of_others(relation) as code;
    if found is not null then
        raise exception using
            errcode = 'PY008',
            message = format('table %s can''t belong to pysync: it would run code of others (%s)',
                             relation, found),
            hint = 'Leave that out. A site that needs it has to own the table.',
            schema = 'course', table = (select relname from pg_class where oid = relation);
    end if;
end
$$;

revoke all on procedure course.own_table(regclass) from public;
comment on procedure course.own_table(regclass) is
    'Give a replicated table to pysync''s own role, unless it runs code of others.';
