-- What of a table would run code of others than superusers, who installed pysync, and pysync's own
-- role, for whoever reads or writes it: rows are applied, compared and mended as the table's owner.
-- Whatever hangs on the table is followed to all that it is made of, by the catalog's dependencies.
create or replace function course.code_of_others(relation regclass)
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
with recursive row_types as (
    select types.oid
      from pg_catalog.pg_type as types
     where types.typrelid = relation
        or types.typelem = (select reltype from pg_catalog.pg_class where oid = relation)
), hung (classid, objid) as (
    -- The table itself for its columns' types.
    select 'pg_class'::regclass::oid, relation::oid
    union all
    select 'pg_attrdef'::regclass, oid from pg_catalog.pg_attrdef where adrelid = relation
    union all
    select 'pg_constraint'::regclass, oid
      from pg_catalog.pg_constraint
     where conrelid = relation and contype <> 'f'
    union all
    select 'pg_class'::regclass, indexrelid from pg_catalog.pg_index where indrelid = relation
    union all
    select 'pg_statistic_ext'::regclass, oid
      from pg_catalog.pg_statistic_ext
     where stxrelid = relation
    union all
    select 'pg_trigger'::regclass, oid
      from pg_catalog.pg_trigger
     where tgrelid = relation and not tgisinternal
    union all
    select 'pg_cast'::regclass, casts.oid
      from pg_catalog.pg_cast as casts
      join row_types on row_types.oid in (casts.castsource, casts.casttarget)
), uses (classid, objid, refclassid, refobjid) as (
    select classid, objid, classid, objid from hung
    union
    select uses.classid, uses.objid, needed.refclassid, needed.refobjid
      from uses
      join pg_catalog.pg_depend as needed
        on needed.classid = uses.refclassid and needed.objid = uses.refobjid
      left join pg_catalog.pg_type as enum
        on needed.refclassid = 'pg_type'::regclass and enum.oid = needed.refobjid
       and enum.typtype = 'e'
     where needed.deptype <> 'e'
       and needed.refclassid <> 'pg_namespace'::regclass
       and (needed.refclassid, needed.refobjid) <> ('pg_class'::regclass, relation)
       and enum.oid is null  -- it has no code
)
select format('%s uses what belongs to role %I',
              pg_describe_object(uses.classid, uses.objid, 0), owner.rolname)
  from uses
  join pg_catalog.pg_database as here on here.datname = current_database()
  join pg_catalog.pg_shdepend as owned
    on owned.dbid = here.oid and owned.deptype = 'o'
   and owned.classid = uses.refclassid and owned.objid = uses.refobjid
  join pg_catalog.pg_roles as owner on owner.oid = owned.refobjid
 where (uses.refclassid, uses.refobjid) <> ('pg_class'::regclass, relation)
   and not owner.rolsuper
   and owner.rolname <> 'pysync_course'
   and owner.rolname <> coalesce(
           (select pg_get_userbyid(ours.relowner)
              from pg_catalog.pg_class as ours
             where ours.oid = to_regclass('course.this_course')),
           current_user)  -- who will install it
union
-- Its check reads the table as the table's owner, and casts what points at it.
select format('%s compares a type that isn''t PostgreSQL''s own',
              pg_describe_object('pg_constraint'::regclass, key.oid, 0))
  from pg_catalog.pg_constraint as key
  join pg_catalog.pg_attribute as part
    on part.attrelid = key.conrelid and part.attnum = any (key.conkey)
    or part.attrelid = key.confrelid and part.attnum = any (key.confkey)
 where key.contype = 'f'
   and relation in (key.conrelid, key.confrelid)
   and part.atttypid >= 16384
   and part.atttypid is distinct from to_regtype('course.this_course_id')
union
select pg_describe_object('pg_rewrite'::regclass, oid, 0)
  from pg_catalog.pg_rewrite
 where ev_class = relation
union
select pg_describe_object('pg_policy'::regclass, oid, 0)
  from pg_catalog.pg_policy
 where polrelid = relation
union
select 'row security'
  from pg_catalog.pg_class
 where oid = relation and (relrowsecurity or relforcerowsecurity)
union
select format('table %s inherits from table %s', inhrelid::regclass, inhparent::regclass)
  from pg_catalog.pg_inherits
 where relation in (inhrelid, inhparent)
 order by 1
$$;

revoke all on function course.code_of_others(regclass) from public;
comment on function course.code_of_others(regclass) is
    'What on a replicated table would run code of others for whoever reads or writes the table.';
