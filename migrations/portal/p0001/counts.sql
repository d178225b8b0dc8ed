-- Inlined into what reads the portal's enrollments once a column of theirs says who counts: see
-- `pysync membership`. A row whose table has lost that column, or has it with another type, counts:
-- nobody is removed in silence.
create or replace function course.counts(value boolean)
returns boolean
language sql
immutable
parallel safe
as $$ select value is true $$;

create or replace function course.counts(value anyelement)
returns boolean
language sql
immutable
parallel safe
as $$ select true $$;

alter function course.counts(boolean) owner to pysync_owner;
alter function course.counts(anyelement) owner to pysync_owner;
revoke all on function course.counts(boolean) from public;
revoke all on function course.counts(anyelement) from public;
grant execute on function course.counts(boolean), course.counts(anyelement) to pysync_fan_out;
comment on function course.counts(boolean) is
    'Whether an enrollment counts, by the column that says so; null doesn''t.';
comment on function course.counts(anyelement) is
    'An enrollment counts where the column that said so is gone, or no boolean any more.';
