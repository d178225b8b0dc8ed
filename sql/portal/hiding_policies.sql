-- Row security of a table of applications hides no row from the triggers where the policy is there
-- that pysync made, and none that restricts it. One that begins as the remedy writes it, with our
-- role's name, lets us pass.
create or replace function pysync.hiding_policies(relation regclass)
returns table (policy name)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select policy.polname
  from pg_class as class
  join pg_roles as ours
    on ours.rolname = 'pysync_fan_out' and not ours.rolsuper and not ours.rolbypassrls
  left join pg_policy as open
    on open.polrelid = class.oid and open.polname = 'pysync_fan_out' and open.polpermissive
   and open.polcmd = '*' and pg_get_expr(open.polqual, open.polrelid) = 'true'
  left join pg_policy as policy
    on policy.polrelid = class.oid and not policy.polpermissive and policy.polcmd <> 'd'
   and exists (
           select
             from unnest(policy.polroles) as role (oid)
            where role.oid = 0 or pg_has_role(ours.oid, role.oid, 'usage')
       )
   and not (
           coalesce(pg_get_expr(policy.polqual, policy.polrelid), 'true')
               ~ '^(true$|\(\(CURRENT_USER = ''pysync_fan_out''::name\) OR )'
           and coalesce(pg_get_expr(policy.polwithcheck, policy.polrelid), 'true')
               ~ '^(true$|\(\(CURRENT_USER = ''pysync_fan_out''::name\) OR )')
 where class.oid = hiding_policies.relation
   and class.relrowsecurity
   and (open.oid is null or policy.oid is not null)
 order by policy.polname
$$;

revoke all on function pysync.hiding_policies(regclass) from public;
grant execute on function pysync.hiding_policies(regclass) to pysync_fan_out;
comment on function pysync.hiding_policies(regclass) is
    'Return the policies that hide rows of a table from pysync''s triggers; null if nothing shows any.';
