"""Django on both sides: a portal whose users log in at a course's site."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pysync.lifecycle import courses
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.types import CourseId
from pysync.watching.status import State, status
from tests.django_site.process import django, migrate_site, new_site
from tests.integration.fan_out import carry
from tests.support import Cluster, Site, assert_live_rows, enroll, insert_user

pytestmark = pytest.mark.newest("Django's part differs by Django's version")

ENROLL = """
from django.db import transaction
with transaction.atomic():
    ada = User.objects.create_user("ada", "ada@example.org", "wonderful", first_name="Ada")
    UserProfile.objects.create(user=ada, name="Ada Lovelace")
    CourseEnrollment.objects.create(user=ada, course_id="A")
result = ada.id
"""

# What a login view does, without a server around it.
LOGIN = """
from django.contrib.auth import SESSION_KEY, authenticate, get_user, login, logout
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest


def request_with(session):
    request = HttpRequest()
    request.session = session
    return request


request = request_with(SessionStore())
user = authenticate(request, username="ada", password="wonderful")
login(request, user)
request.session.save()
"""


@pytest.fixture
def django_site(portal_server: Cluster, course_server: Cluster) -> Any:
    """A Django portal with one course, whose site is Django too."""
    site = Site(
        portal_server, course_server, portal_server.create(template=new_site(portal_server))
    )
    migrate(site.portal, PORTAL, "portal")
    site.add("A", site.new_database(template=new_site(course_server, forum=True)))
    yield site
    site.close()


def in_course(site: Site, code: str, **options: Any) -> Any:
    return django(site.databases["A"], code, forum=True, **options)


def test_a_user_made_on_the_portal_logs_in_at_the_course(django_site: Site) -> None:
    django(django_site.portal, ENROLL)
    django_site.wait()
    assert in_course(
        django_site,
        f"""{LOGIN}
again = get_user(request_with(SessionStore(request.session.session_key)))
wrong = authenticate(request, username="ada", password="wrong")
name = again.profile.name
logout(request)
result = [user.username, again.first_name, name, wrong, user.last_login is not None]
""",
    ) == ["ada", "Ada", "Ada Lovelace", None, True]
    course = django_site.course("A")
    assert course.execute(
        "select to_regclass('public.django_session'), to_regclass('course.django_session'),"
        " (select last_login is not null from auth_user)"
    ).fetchall() == [("django_session", None, True)]
    assert django_site.one("select last_login from auth_user") is None

    # The portal's next value wins.
    django(
        django_site.portal,
        """
        import datetime
        user = User.objects.get()
        user.last_login = datetime.datetime(2012, 10, 1, tzinfo=datetime.UTC)
        user.set_password("changed")
        user.save()
        """,
    )
    django_site.wait()
    assert_live_rows(django_site, "A")
    assert in_course(
        django_site,
        """
        from django.contrib.auth import authenticate
        result = [authenticate(username="ada", password=word) is not None
                  for word in ("wonderful", "changed")]
        """,
    ) == [False, True]


def test_a_course_saves_what_it_does_not_change_and_what_is_its_own(django_site: Site) -> None:
    django(django_site.portal, ENROLL)
    django_site.wait()
    errors = in_course(
        django_site,
        """
        from django.db import ProgrammingError, transaction
        from tests.django_site.forum.models import Post

        user = User.objects.get()
        user.save()
        user.profile.save()
        CourseEnrollment.objects.get().save()
        user.reputation = 7
        user.save()
        Post.objects.create(author=user, text="Hello")


        def refused(change):
            try:
                with transaction.atomic():
                    change()
            except ProgrammingError as error:
                return [error.__cause__.sqlstate, error.__cause__.diag.column_name]
            return None


        def rename():
            user = User.objects.get()
            user.email, user.first_name, user.reputation = "new@example.org", "New", 8
            user.save()


        result = [
            refused(rename),
            refused(lambda: User.objects.update(is_staff=True)),
            refused(lambda: UserProfile.objects.update(goals="more")),
            refused(lambda: User.objects.create_user("bob")),
            refused(lambda: UserProfile.objects.all().delete()),
            refused(lambda: CourseEnrollment.objects.all().delete()),
        ]
        """,
    )
    assert errors == [
        ["PY002", "email, first_name"],
        ["PY002", "is_staff"],
        ["PY002", "goals"],
        ["PY002", None],
        ["PY002", None],
        ["PY002", None],
    ]
    assert_live_rows(django_site, "A")
    course = django_site.course("A")
    assert course.execute("select reputation from auth_user").fetchall() == [(7,)]


def test_a_login_that_would_upgrade_the_password_is_the_portals_business(
    django_site: Site,
) -> None:
    """A course site that prefers another hasher than the portal tries to write passwords anew."""
    django(django_site.portal, ENROLL)
    django_site.wait()
    login = """
        from django.contrib.auth import authenticate
        from django.db import ProgrammingError
        try:
            result = authenticate(username="ada", password="wonderful").username
        except ProgrammingError as error:
            result = error.__cause__.diag.column_name
        """
    assert in_course(django_site, login, hashers="Scrypt,MD5") == "password"
    assert in_course(django_site, login, hashers="MD5,Scrypt") == "ada"
    assert django(django_site.portal, login, hashers="Scrypt,MD5") == "ada"
    django_site.wait()
    assert_live_rows(django_site, "A")
    assert in_course(django_site, login, hashers="Scrypt,MD5") == "ada"


def test_later_migrations_of_a_course_site_find_the_moved_tables(
    site: Site, course_server: Cluster
) -> None:
    course = site.new_database(template=new_site(course_server))
    site.add("A", course)
    enroll(site, insert_user(site, "ada"), "A")
    site.wait()
    migrate_site(course, forum=True)
    enroll(site, insert_user(site, "bob"), "A")
    site.wait()
    assert_live_rows(site, "A")
    assert in_course(
        site,
        """
        from tests.django_site.forum.models import Post
        Post.objects.create(author=User.objects.get(username="bob"), text="Hello")
        result = list(User.objects.order_by("id").values_list("username", "reputation"))
        """,
    ) == [["ada", 1], ["bob", 1]]
    assert status(site.portal)[0].state is State.STREAMING


def test_a_removed_course_is_writable_through_the_orm(django_site: Site) -> None:
    ada = django(django_site.portal, ENROLL)
    django_site.wait()
    courses.remove(django_site.portal, CourseId("A"))
    assert in_course(
        django_site,
        """
        bob = User.objects.create_user("bob", "bob@example.org", "secret")
        UserProfile.objects.create(user=bob, name="Bob")
        CourseEnrollment.objects.create(user=bob, course_id="A")
        User.objects.filter(username="ada").update(email="other@example.org")
        result = sorted(User.objects.values_list("id", flat=True))
        """,
    ) == [ada, ada + 1]
    with psycopg.connect(django_site.databases["A"]) as connection:
        copies = connection.execute("select distinct course_id from course.auth_user").fetchall()
    assert copies == [("A",)]


def test_a_field_that_the_portal_adds_is_read_in_courses_by_the_orm(
    django_site: Site, course_server: Cluster
) -> None:
    """A course's site runs the migration that adds it before, or after it is carried."""
    site = django_site
    site.add("B", site.new_database(template=new_site(course_server)))
    ada = django(site.portal, ENROLL)
    enroll(site, ada, "B")
    migrate_site(site.databases["B"], country=True)
    migrate_site(site.portal, country=True)
    django(site.portal, "UserProfile.objects.update(country='gb')", country=True)
    carry(site, "auth_userprofile", "country", takes_over=True)
    with pytest.raises(AssertionError, match="DuplicateColumn"):
        migrate_site(site.databases["A"], forum=True, country=True)
    migrate_site(site.databases["A"], forum=True, country=True, fake=True)
    code = """
        from django.db import ProgrammingError
        profile = UserProfile.objects.get(country="gb")
        profile.save()
        profile.country = "xx"
        try:
            profile.save()
        except ProgrammingError as error:
            result = [profile.name, error.__cause__.diag.column_name]
        """
    site.wait()
    for course, forum in (("A", True), ("B", False)):
        read = django(site.databases[course], code, forum=forum, country=True)
        assert read == ["Ada Lovelace", "country"]
    # Whose code knows the field already, and whose doesn't yet.
    for country, name in ((True, "bob"), (False, "carl")):
        make = f"""
            user = User.objects.create_user({name!r})
            UserProfile.objects.create(user=user, name={name!r})
            CourseEnrollment.objects.create(user=user, course_id="A")
            """
        django(site.portal, make, country=country)
    django(site.portal, "UserProfile.objects.filter(name='bob').update(country='fr')", country=True)
    site.wait()
    code = "result = list(UserProfile.objects.order_by('id').values_list('name', 'country'))"
    found = django(site.databases["A"], code, forum=True, country=True)
    assert found == [["Ada Lovelace", "gb"], ["bob", "fr"], ["carl", ""]]
    assert [each.state for each in status(site.portal)] == [State.STREAMING] * 2
