-- Inlined: what it is of is known when a plan is made. By output functions, since a cast may be
-- somebody else's; a type whose output follows settings has them pinned.
create or replace function course.as_text(value anyelement, otherwise text)
returns text
language sql
stable
as $$
select case
           when pg_catalog.pg_typeof(value)
                    operator(pg_catalog.=) 'course.absent'::pg_catalog.regtype
           then otherwise
           when pg_catalog.num_nulls(value) operator(pg_catalog.=) 1
           then null
           when pg_catalog.pg_typeof(value) operator(pg_catalog.=) any (
                    '{text,varchar,bpchar,name,boolean,smallint,integer,bigint,numeric,uuid,json,jsonb}'
                        ::pg_catalog.regtype[])
           then pg_catalog.concat(value)
           else course.as_pinned_text(value)
       end
$$;

alter function course.as_text(anyelement, text) owner to pysync_owner;
revoke all on function course.as_text(anyelement, text) from public;
grant execute on function course.as_text(anyelement, text) to pysync_fan_out;
comment on function course.as_text(anyelement, text) is
    'Return a carried column''s value as text, or another where the portal''s table lacks the column.';
