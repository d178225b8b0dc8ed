"""An apply worker has its tables' owners' rights; up to 15 its subscription's owner's: these are few."""

from __future__ import annotations

import time
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pysync.db.connections import connect
from pysync.errors import ReplicationError
from pysync.findings import Finding
from pysync.lifecycle import courses, pause
from pysync.replication import registry, subscriptions
from pysync.types import CourseId
from pysync.watching.doctor import examine
from tests.support import Site, assert_live_rows, enroll, eventually, insert_user

pytestmark = pytest.mark.oldest_and_newest(
    "15 applies as a subscription's owner, later as a table's"
)

WAITS = "select from pg_locks where not granted and relation = 'course.auth_user'::regclass"
OWNER = """
select r.rolname, r.rolsuper or r.rolcreaterole, s.subname
  from pg_subscription s
  join pg_roles r on r.oid = s.subowner
  join pg_database d on d.oid = s.subdbid and d.datname = current_database()
"""

AS_TABLES_OWNERS = """
select from pg_attribute where attrelid = 'pg_subscription'::regclass and attname = 'subrunasowner'
"""


def complaints(site: Site) -> list[str]:
    found = (f"{each.finding}" for each in examine(site.portal))
    return [each for each in found if "applies rows with the rights" in each]


def of_others(site: Site) -> list[Finding]:
    found = [each.finding for each in examine(site.portal)]
    return [each for each in found if "code of" in each.cause]


def test_a_worker_has_its_tables_owners_rights_and_nobody_is_it(site: Site) -> None:
    enroll(site, insert_user(site, "ann"), "A")
    site.add("A")
    course = site.course("A")
    ((role, may_much, name),) = course.execute(OWNER).fetchall()
    assert complaints(site) == []
    subscription = sql.Identifier(name)
    if course.execute(AS_TABLES_OWNERS).fetchall():
        powerful = "alter subscription {} set (run_as_owner = true)"
    else:
        powerful = "alter subscription {} owner to current_user"
        assert (role, may_much) == (name, False)
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            psycopg.connect(make_conninfo(site.databases["A"], user=str(role)))

    neighbour = f"neighbour_{uuid4().hex[:8]}"
    course.execute(
        f"create role {neighbour}; create schema home authorization {neighbour};"
        f" set role {neighbour}; create sequence home.numbers;"
        " create function home.meet() returns trigger language plpgsql as"
        " $$ begin return new; end $$; reset role"
    )
    assert of_others(site) == []
    course.execute(
        f"grant trigger on course.auth_user to {neighbour}; create trigger met before insert"
        " on course.auth_user for each row execute function home.meet()"
    )
    code, may_put = of_others(site)
    assert "trigger met on table course.auth_user uses what belongs to role" in str(code)
    course.execute("drop trigger met on course.auth_user")
    course.execute(may_put.commands[0].encode())
    assert of_others(site) == []

    # What a site's column is filled with takes the site's rights.
    course.execute(
        f"alter table course.auth_user owner to {neighbour};"
        " alter table course.auth_user add column number int default nextval('home.numbers')"
    )
    course.execute(sql.SQL(powerful).format(subscription))
    assert len(complaints(site)) == 1
    for on in (False, True):
        pause.switch(site.portal, CourseId("A"), on=on)
    assert complaints(site) == []
    enroll(site, insert_user(site, "bob"), "A")
    site.wait()
    assert_live_rows(site, "A")
    courses.remove(site.portal, CourseId("A"))
    assert course.execute("select from pg_roles where rolname = %s", (name,)).fetchall() == []


def test_a_worker_that_is_not_ours_to_end_is_waited_for_only_where_that_helps(site: Site) -> None:
    """A member of a superuser's role may stop its subscription, and not end its processes."""
    ann = insert_user(site, "ann")
    enroll(site, ann, "A")
    site.add("A")
    course = site.course("A")
    ((_, _, name),) = course.execute(OWNER).fetchall()
    course.execute(
        sql.SQL("alter subscription {} owner to current_user").format(sql.Identifier(name))
    )
    deputy = f"deputy_{uuid4().hex[:8]}"
    course.execute(sql.SQL("create role {} login in role postgres").format(sql.Identifier(deputy)))
    with closing(connect(site.portal)) as portal:
        (registered,) = registry.courses(portal)
    with (
        closing(connect(make_conninfo(site.databases["A"], user=deputy))) as database,
        psycopg.connect(site.databases["A"]) as holder,
    ):
        # It ends by itself.
        subscriptions.stop(database, registered)
        course.execute(sql.SQL("alter subscription {} enable").format(sql.Identifier(name)))
        site.wait()
        holder.execute("lock table course.auth_user in share mode")
        site.execute("update auth_user set email = 'new@example.org' where id = %s", ann)
        eventually(lambda: course.execute(WAITS).fetchall())
        begun = time.monotonic()
        told = f"waits for a lock, and role '{deputy}' may not end it: it is role 'postgres''s"
        with pytest.raises(ReplicationError, match=told) as refused:
            subscriptions.stop(database, registered)
        assert refused.value.remedy == "run the command as a superuser"
        assert time.monotonic() - begun < 5
    with connect(site.databases["A"]) as database:
        subscriptions.stop(database, registered)
    course.execute(sql.SQL("drop role {}").format(sql.Identifier(deputy)))
