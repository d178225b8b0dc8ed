insert into pysync.setting (name) values ('discussion_service')
on conflict (name) do nothing;
