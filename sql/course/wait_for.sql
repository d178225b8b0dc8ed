create or replace procedure course.wait_for(mark bigint, patience interval default '5 s')
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    deadline constant timestamptz := clock_timestamp() + patience;
    pause_seconds double precision := 0.0005;
    lost_after timestamptz;
    lost_before timestamptz;
begin
    if mark is null or patience is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'course.wait_for needs a mark and an interval, neither of them null';
    end if;
    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception using
            errcode = 'active_sql_transaction',
            message = 'course.wait_for needs READ COMMITTED: this transaction''s snapshot is fixed '
                      'and would never see the mark arrive',
            hint = 'Call it outside a transaction, or in one at READ COMMITTED.';
    end if;
    loop
        -- While tables are first copied each arrives on its own; the mark counts once all have.
        exit when exists (
                select
                  from course.mark as latest
                 where latest.number >= wait_for.mark
                   and latest.course_id = (select this_course.course_id from course.this_course)
            ) and not exists (
                select
                  from pg_catalog.pg_subscription_rel as subscribed
                 where subscribed.srrelid = any (array[
                           {'published_tables'}
                       ]::regclass[])
                   and subscribed.srsubstate <> 'r'
            );
        if clock_timestamp() >= deadline then
            raise exception using
                errcode = 'PY001',
                message = format('course ''%s'' has not received mark %s within %s',
                                 (select this_course.course_id from course.this_course),
                                 mark, patience),
                hint = 'Wait again, or ask "pysync status" why replication is late.';
        end if;
        perform pg_sleep(least(
            pause_seconds,
            greatest(extract(epoch from deadline - clock_timestamp())::double precision, 0)));
        pause_seconds := least(pause_seconds * 1.5, 0.05);
    end loop;
    select min(missing.lost_after), max(missing.lost_before)
      into lost_after, lost_before
      from course.missing_mark as missing;
    if lost_before is not null then
        raise exception using
            errcode = 'PY007',
            message = format('course ''%s'' has received mark %s, but changes between %s and %s are '
                             'missing',
                             (select this_course.course_id from course.this_course),
                             mark, coalesce(lost_after::text, 'its beginning'), lost_before),
            hint = 'Run "pysync resync" for the course.';
    end if;
end
$$;

revoke all on procedure course.wait_for(bigint, interval) from public;
comment on procedure course.wait_for(bigint, interval) is
    'Return once everything committed on the portal before pysync.mark() gave out this mark is '
    'visible here; raises PY001 when patience runs out, and '
    'PY007 if the mark is here and changes before it were lost.';
