-- What the discussion service's functions need beyond what the fan-out's do.
grant select on pysync.setting to pysync_owner;
grant select, insert, update, delete on pysync.discussion_change to pysync_owner;
grant select, insert, update, delete on pysync.discussion_outbox to pysync_owner;
