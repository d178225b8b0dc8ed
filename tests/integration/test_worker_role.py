"""Up to 15 an apply worker has its subscription's owner's rights: these are few."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pysync.lifecycle import courses, pause
from pysync.types import CourseId
from tests.support import Site, assert_live_rows, enroll, insert_user

pytestmark = pytest.mark.oldest_and_newest(
    "15 applies as a subscription's owner, later as a table's"
)

AS_TABLES_OWNERS = (
    "select from pg_attribute where attrelid = 'pg_subscription'::regclass"
    " and attname = 'subrunasowner'"
)


def test_a_worker_has_its_tables_owners_rights_and_nobody_is_it(site: Site) -> None:
    enroll(site, insert_user(site, "ann"), "A")
    site.add("A")
    course = site.course("A")
    ((role, may_much, name),) = course.execute(
        "select r.rolname, r.rolsuper or r.rolcreaterole, s.subname"
        " from pg_subscription s join pg_roles r on r.oid = s.subowner"
        " join pg_database d on d.oid = s.subdbid where d.datname = current_database()"
    ).fetchall()
    if course.execute(AS_TABLES_OWNERS).fetchall():
        assert (role, may_much) == (course.info.user, True)
        return
    assert (role, may_much) == (name, False)
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        psycopg.connect(make_conninfo(site.databases["A"], user=str(role)))

    # What a site's column is filled with takes the site's rights.
    neighbour = f"neighbour_{uuid4().hex[:8]}"
    course.execute(
        f"create role {neighbour}; alter table course.auth_user owner to {neighbour};"
        f" create schema home authorization {neighbour}; set role {neighbour};"
        " create sequence home.numbers; reset role;"
        " alter table course.auth_user add column number int default nextval('home.numbers')"
    )
    pause.switch(site.portal, CourseId("A"), on=False)
    pause.switch(site.portal, CourseId("A"), on=True)
    enroll(site, insert_user(site, "bob"), "A")
    site.wait()
    assert_live_rows(site, "A")
    courses.remove(site.portal, CourseId("A"))
    assert course.execute("select from pg_roles where rolname = %s", (name,)).fetchall() == []
