create or replace function course.as_pinned_text(value anyelement)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set lc_monetary = 'C'
as $$
select concat(value)
$$;

alter function course.as_pinned_text(anyelement) owner to pysync_owner;
revoke all on function course.as_pinned_text(anyelement) from public;
grant execute on function course.as_pinned_text(anyelement) to pysync_fan_out;
comment on function course.as_pinned_text(anyelement) is
    'Return a value as text, whatever the session''s settings are.';
