"""A portal that tests share where only the fan-out matters: a database of its own costs more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict

import pysync.migrate  # noqa: F401 - all tables are part of the metadata
from pysync.models.portal import PortalBase
from tests.integration.fan_out import App, application, carry_awkward, role
from tests.support import Cluster, Site

OURS = [
    f"public.{table.name}"
    for table in PortalBase.metadata.sorted_tables
    if table.schema == "public"
]

CLEAR = f"""
do $$
declare
    statement text;
begin
    for statement in
        select format('drop trigger %I on %s', tgname, tgrelid::regclass)
          from pg_trigger
         where tgrelid = any ('{{{", ".join(OURS)}}}'::regclass[])
           and not tgisinternal and tgname not like 'pysync\\_%'
        union all
        select format('drop function %s', oid::regprocedure)
          from pg_proc where pronamespace = 'public'::regnamespace
        union all
        select format('alter table %s drop column karma', attrelid::regclass)
          from pg_attribute where attname = 'karma' and not attisdropped
        union all
        select format('drop table public.%I', relname)
          from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
           and not oid = any ('{{{", ".join(OURS)}}}'::regclass[])
    loop
        execute statement;
    end loop;
end
$$;
set local session_replication_role = replica;
{"".join(f"delete from {table};" for table in OURS)}
delete from course.student_courseenrollment;
delete from course.auth_userprofile;
delete from course.auth_user;
delete from course.mark;
delete from pysync.course;
{";".join(f"alter table {table} alter column id restart" for table in OURS)}
"""


@pytest.fixture(scope="session")
def shared_app(
    portal_server: Cluster, course_server: Cluster, portal_template: str
) -> Iterator[App]:
    """An application on a portal that stays; nothing that is tested here outlives a crash.

    It has columns of its own carried: what holds here holds for them.
    """
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    database = conninfo_to_dict(site.portal)["dbname"]
    site.execute(f"alter database {database} set synchronous_commit = off")
    carry_awkward(site)
    with application(site) as app:
        yield app
    site.close()


@pytest.fixture
def app(shared_app: App) -> Iterator[App]:
    """An application on the shared portal, which is empty again for each test.

    Its courses have no databases (``site.register_only``).
    """
    yield shared_app
    shared_app.close_others()
    shared_app.site.execute(CLEAR)


@pytest.fixture
def own_app(site: Site) -> Iterator[App]:
    """An application on a portal of its own, for tests with course databases."""
    with application(site) as app:
        yield app


@pytest.fixture
def student_app(app: App) -> Iterator[App]:
    """An application with rights on the portal's own tables that calls functions in schema student.

    It is on the shared portal, and empty again for each test, as :func:`app` is.
    """
    with role(
        app.site,
        "select, insert, update, delete on all tables in schema public",
        "usage on schema student",
        "execute on all functions in schema student",
        "select, insert, delete on student.email_claim",
    ) as name:
        caller = App(app.site, name, app.site.connect(user=name))
        try:
            yield caller
        finally:
            caller.close()
