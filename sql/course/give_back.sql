create or replace procedure course.give_back()
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    adopted record;
begin
    for adopted in
        select format('course.%I', adoption.table_name)::regclass as relation, adoption.owner
          from course.adoption
         where not adoption.keeps_owner and to_regrole(quote_ident(adoption.owner)) is not null
    loop
        call course.hand_over(adopted.relation, adopted.owner::name);
    end loop;
end
$$;

revoke all on procedure course.give_back() from public;
comment on procedure course.give_back() is
    'Give adopted tables back to the roles that they were taken from.';
