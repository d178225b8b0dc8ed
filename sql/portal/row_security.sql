-- What a course's replication role may read by SQL, and so by the initial copy: its own rows, or those
-- that a relay carries. A course that streams from a relay has a role there, whose name may be somebody
-- else's here. The trigger functions and marks work on all.
-- Streaming isn't covered: publications have no privileges in PostgreSQL.
create or replace function pysync.readable_courses(role_name name)
returns text[]
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return array(
    select unnest(course.course_id || course.carries)
      from pysync.course
     where course.replication_role = role_name and course.relay is null
);

alter function pysync.readable_courses(name) owner to pysync_owner;
revoke all on function pysync.readable_courses(name) from public;
comment on function pysync.readable_courses(name) is
    'Return the courses whose rows are sent to subscriptions that connect to the portal as this role.';

do $$
declare
    fan_out_table regclass;
begin
    foreach fan_out_table in array array[
        {'published_tables'}
    ]::regclass[]
    loop
        execute format('alter table %s enable row level security', fan_out_table);
        execute format('drop policy if exists pysync_own_course on %s', fan_out_table);
        execute format(
            'create policy pysync_own_course on %s for select using '
            '(course_id = any ((select pysync.readable_courses(current_user))::text[]))',
            fan_out_table);
        execute format('drop policy if exists pysync_fan_out on %s', fan_out_table);
        execute format(
            'create policy pysync_fan_out on %s to pysync_fan_out, pysync_owner '
            'using (true) with check (true)',
            fan_out_table);
    end loop;
end
$$;

-- Applications may have row security on their own tables, now or later: the triggers see all rows.
do $$
declare
    relation regclass;
begin
    foreach relation in array array[
        {'source_tables'},
        'public.django_comment_client_role', 'public.django_comment_client_role_users'
    ]::regclass[]
    loop
        execute format('drop policy if exists pysync_fan_out on %s', relation);
        execute format(
            'create policy pysync_fan_out on %s to pysync_fan_out using (true) with check (true)',
            relation);
    end loop;
end
$$;
