create or replace procedure course.give_back()
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    adopted record;
    granted record;
begin
    for adopted in
        select format('course.%I', adoption.table_name)::regclass as relation, adoption.owner,
               adoption.revoked
          from course.adoption
         where not adoption.keeps_owner and to_regrole(quote_ident(adoption.owner)) is not null
    loop
        call course.hand_over(adopted.relation, adopted.owner::name);
        for granted in
            select *
              from jsonb_to_recordset(adopted.revoked)
                   as revoked (privilege text, on_column name, grantee name, grantable boolean)
             where revoked.privilege in ('REFERENCES', 'TRIGGER')
        loop
            begin
                execute format('grant %s%s on %s to %s%s', granted.privilege,
                               '(' || quote_ident(granted.on_column) || ')', adopted.relation,
                               coalesce(quote_ident(granted.grantee), 'public'),
                               case when granted.grantable then ' with grant option' end);
            exception
                when undefined_object or undefined_column then
                    null;  -- the role or the column is gone
            end;
        end loop;
    end loop;
    update course.adoption set revoked = '[]';
end
$$;

revoke all on procedure course.give_back() from public;
comment on procedure course.give_back() is
    'Give adopted tables back to the roles that they were taken from, and others'' rights on them.';
