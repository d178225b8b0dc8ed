"""Pysync beside others that carry the same rows: until all courses have what the portal committed.

On PostgreSQL 15, which pglogical is packaged for, each on a pair of servers of its own whose
subscriptions stay attached: native subscriptions, and pglogical, both fed by the simplest triggers
(``fan_out.sql``), and pysync. Who isn't measured is idle. 20,000 users with profiles, three
enrollments each in eight courses. The contents of all three tables in all courses are compared with
what the portal's own tables say after the last round of each.
"""
