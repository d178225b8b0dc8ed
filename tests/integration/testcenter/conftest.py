"""A portal for these tests alone, and an application with rights on its tables only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.integration.fan_out import App, role
from tests.support import Cluster, Site

GRANTS = (
    "select, insert, update, delete on auth_user, student_testcenteruser,"
    " student_testcenterregistration",
    "select on student.testcenter_user, student.testcenter_registration,"
    " student.accommodation_code",
    "usage on schema student",
    "execute on all functions in schema student",
)


@pytest.fixture(scope="session")
def testcenter_app(
    portal_server: Cluster, course_server: Cluster, portal_template: str
) -> Iterator[App]:
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    site.execute(
        f"alter database {conninfo_to_dict(site.portal)['dbname']} set synchronous_commit = off"
    )
    with role(site, *GRANTS) as name:
        app = App(site, name, site.connect(user=name))
        yield app
        app.close()
    site.close()


@pytest.fixture
def app(testcenter_app: App) -> Iterator[App]:
    """An application on that portal, which is empty again for each test."""
    yield testcenter_app
    testcenter_app.close_others()
    testcenter_app.site.execute("delete from auth_user")
