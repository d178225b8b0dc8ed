-- Enrolling writes roles as pysync_fan_out, whatever the application may do with them. Identities
-- need no rights on their sequences; the ids of an adopted table may be serials, which do.
grant select, insert on public.django_comment_client_role to pysync_fan_out;
grant select, insert on public.django_comment_client_role_users to pysync_fan_out;

do $$
declare
    sequence regclass;
begin
    for sequence in
        select depend.refobjid
          from pg_catalog.pg_attrdef as attrdef
          join pg_catalog.pg_depend as depend
               on depend.classid = 'pg_catalog.pg_attrdef'::regclass
              and depend.objid = attrdef.oid
          join pg_catalog.pg_class as class on class.oid = depend.refobjid
         where attrdef.adrelid in ('public.django_comment_client_role'::regclass,
                                   'public.django_comment_client_role_users'::regclass)
           and depend.refclassid = 'pg_catalog.pg_class'::regclass
           and class.relkind = 'S'
    loop
        execute format('grant usage on sequence %s to pysync_fan_out', sequence);
    end loop;
end
$$;
