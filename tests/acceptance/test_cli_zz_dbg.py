from tests.acceptance.test_cli_course_add import *
from tests.acceptance import test_cli_course_add as m
import time
def test_dbg(site, start):
    enroll_users(site,"A",3); new_course(site,"A")
    print(site.execute("select id, username from auth_user"))
    session = site.course("A")
    with held_slot(site, start) as process:
        session.execute("begin")
        session.execute("set local session_replication_role = replica")
        session.execute(
            "insert into course.auth_user (id, course_id, username, password)"
            " values (1, 'A', 'user1', '')"
        )
    time.sleep(2)
    c=site.course("A")
    for r in c.execute("select pid, datname, backend_type, state, wait_event_type, wait_event, left(query,90) from pg_stat_activity").fetchall(): print(r)
    print(c.execute("select srrelid::regclass, srsubstate from pg_subscription_rel").fetchall())
    print(process.poll())
    process.kill(); print(process.communicate())
    from pathlib import Path
    print(Path(site.course_server.executor.logfile).read_text()[-1500:])
    assert 0
