create or replace function course.take_back()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    left_there text;
begin
    if tg_relid <> 'course.loan'::regclass then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('%s isn''t for %s', tg_name, tg_relid::regclass);
    end if;
    if to_regclass(format('course.%I', new.table_name)) is distinct from new.relation::regclass then
        raise exception using
            errcode = 'PY008',
            message = format('table course.%I was lent, and isn''t there any more', new.table_name),
            hint = 'Alter it in place.';
    end if;
    call course.own_table(new.relation);
    if course.write_guard(new.relation) is distinct from new.write_guard then
        raise exception using
            errcode = 'PY008',
            message = format('table course.%I can''t be taken back: its write guard was altered',
                             new.table_name),
            hint = 'Leave triggers and constraints called pysync_... as they are.';
    end if;
    if not new.may_create then
        execute format('revoke create on schema course from %I', new.borrower);
    end if;
    select string_agg(pg_describe_object(inside.classid, inside.objid, 0), '; ')
      into left_there
      from pg_catalog.pg_depend as inside
      join pg_catalog.pg_database as here on here.datname = current_database()
      join pg_catalog.pg_shdepend as owned
        on owned.dbid = here.oid and owned.deptype = 'o'
       and owned.classid = inside.classid and owned.objid = inside.objid
     where inside.refclassid = 'pg_namespace'::regclass
       and inside.refobjid = 'course'::regnamespace
       and owned.refobjid = quote_ident(new.borrower)::regrole
       and (inside.classid, inside.objid) not in (
               select 'pg_class'::regclass, kept
                 from unnest(array['course.auth_user', 'course.auth_userprofile',
                             'course.student_courseenrollment']::regclass[]) as kept);
    if left_there is not null then
        raise exception using
            errcode = 'PY008',
            message = format('schema course is pysync''s: role %I made something there (%s)',
                             new.borrower, left_there),
            hint = 'Make it in a schema of your own.';
    end if;
    delete from course.loan where loan.table_name = new.table_name;
    return null;
end
$$;

revoke all on function course.take_back() from public;
comment on function course.take_back() is
    'Take a table back that was lent, at the end of the transaction at the latest.';

drop trigger if exists pysync_take_back on course.loan;
create constraint trigger pysync_take_back
    after insert on course.loan
    deferrable initially deferred
    for each row execute function course.take_back();
-- Whatever the borrower's session_replication_role.
alter table course.loan enable always trigger pysync_take_back;
