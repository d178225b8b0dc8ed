create or replace procedure course.give_back()
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    adopted record;
    statement text;
begin
    for adopted in
        select format('course.%I', adoption.table_name)::regclass as relation, adoption.owner,
               adoption.revoked
          from course.adoption
         where not adoption.keeps_owner and to_regrole(quote_ident(adoption.owner)) is not null
    loop
        call course.hand_over(adopted.relation, adopted.owner::name);
        foreach statement in array adopted.revoked
        loop
            begin
                execute statement;
            exception
                when undefined_object or undefined_column then
                    null;  -- the role or the column is gone
            end;
        end loop;
    end loop;
    update course.adoption set revoked = '{}';
end
$$;

revoke all on procedure course.give_back() from public;
comment on procedure course.give_back() is
    'Give adopted tables back to the roles that they were taken from, and others'' rights on them.';
