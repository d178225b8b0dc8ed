create or replace function student.default_groups()
returns table (group_name text, description text)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
values ('email_future_courses', 'Receive e-mails about future MITx courses'),
       ('email_helpers', 'Receive e-mails about how to help with MITx'),
       ('mitx_unenroll', 'Fully unenrolled -- no further communications'),
       ('6002x_unenroll', 'Took and dropped 6002x')
$$;

revoke all on function student.default_groups() from public;
comment on function student.default_groups() is
    'Return the groups that student.add_user_to_default_group creates on first use.';
