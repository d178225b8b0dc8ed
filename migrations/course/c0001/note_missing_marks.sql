-- Marks form a chain: each names those that were committed on the portal when it was sent, by row.
-- What is committed there comes here in the same order, so when a mark arrives those have arrived, or
-- changes beside them are missing. Its own row is locked on the portal from one mark to the next, and
-- must be here exactly as it was there: one that is ahead is of a portal that was restored.
--
-- Fires for the apply worker and for merges only, before the mark is visible. An error would stop
-- replication: what can't be noted is left out with its mark, which is then looked for in vain.
create or replace function course.note_missing_marks()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    lost record;
begin
    if tg_relid <> 'course.mark'::regclass then
        return new;
    end if;
    -- What it follows has been committed here, unless a merge brings all at once.
    new.position := case when current_setting('pysync.merges', true) is distinct from 'on'
                         then pg_current_wal_insert_lsn() - '0/0' end;
    -- A relay sees by its own marks what it lacks; those of others are for its courses. A merge brings
    -- all at once, and so it comes to them: there the mark follows what the relay had.
    if new.course_id <> (select here.course_id from course.this_course as here) then
        if new.position is null then
            new.predecessors := coalesce(
                (select jsonb_object_agg(here.id, here.number)
                   from course.mark as here
                  where here.course_id = new.course_id),
                '{}');
        end if;
        return new;
    end if;
    -- A first copy brings rows one by one, and none of them was sent to be followed.
    if tg_op = 'INSERT' and exists (
        select from pg_catalog.pg_subscription_rel as subscribed
         where subscribed.srrelid = tg_relid and subscribed.srsubstate in ('i', 'd')
    ) then
        return new;
    end if;
    -- Only a break is written: a database whose transactions begin read-only takes marks, too.
    for lost in
        select named.id, named.number
          from (select key::bigint as id, value::bigint as number
                  from jsonb_each_text(new.predecessors)) as named
          left join course.mark as here on here.course_id = new.course_id and here.id = named.id
         where case when named.id = new.id then here.number is distinct from named.number
                    else here.number is null or here.number < named.number end
    loop
        insert into course.missing_mark (id, number, lost_after, lost_before)
        values (lost.id, lost.number, (select max(here.marked_at) from course.mark as here),
                new.marked_at)
            on conflict do nothing;
    end loop;
    -- One session reads this of all courses of a server (pg_stat_activity), so a report needn't begin
    -- one in each. Nothing is said while anything is missing, nor where code of a site's, which may run
    -- in this process if the site keeps its tables, could say it in our place.
    if new.position is not null then
        perform set_config(
            'application_name',
            case when not exists (select from course.missing_mark)
                  and not exists (select from pg_catalog.pg_subscription_rel where srsubstate <> 'r')
                  and not exists (select from course.adoption where keeps_owner)
                 then 'pysync has mark ' || new.number
                 else '' end,
            false);
    end if;
    return new;
exception when others then
    raise warning 'mark % of course % isn''t taken: %', new.number, new.course_id, sqlerrm;
    return null;
end
$$;

revoke all on function course.note_missing_marks() from public;
comment on function course.note_missing_marks() is
    'Note marks in course.missing_mark that the arriving one follows and that aren''t here.';

create or replace trigger pysync_note_missing_marks
before insert or update on course.mark for each row
execute function course.note_missing_marks();

alter table course.mark enable replica trigger pysync_note_missing_marks;
