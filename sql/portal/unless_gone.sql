-- Inlined: whether the portal's table has the column is known when a plan is made.
create or replace function course.unless_gone(source anyelement, value text, otherwise text)
returns text
language sql
stable
as $$
select case
           when pg_catalog.pg_typeof(source)
                    operator(pg_catalog.=) 'course.absent'::pg_catalog.regtype
           then otherwise
           else value
       end
$$;

alter function course.unless_gone(anyelement, text, text) owner to pysync_owner;
revoke all on function course.unless_gone(anyelement, text, text) from public;
grant execute on function course.unless_gone(anyelement, text, text) to pysync_fan_out;
comment on function course.unless_gone(anyelement, text, text) is
    'Return a copy''s value of a carried column, or another where the portal''s table lacks the column.';
