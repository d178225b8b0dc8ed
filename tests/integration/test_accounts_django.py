"""Django's models of 2012 and pysync on the same tables, whoever made them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from pysync.db.sessions import portal_session
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.models.accounts import (
    PendingEmailChange,
    PendingNameChange,
    Registration,
    Role,
    UserTestGroup,
)
from pysync.students import accounts, groups, roles
from tests.django_site.process import django, new_site
from tests.support import Cluster, Site

pytestmark = pytest.mark.newest("Django's part differs by Django's version")


@pytest.fixture(params=["fresh", "adopted"])
def portal(
    request: pytest.FixtureRequest,
    portal_server: Cluster,
    course_server: Cluster,
    portal_template: str,
) -> Iterator[Site]:
    """A portal whose tables pysync made, or Django."""
    adopted = request.param == "adopted"
    template = new_site(portal_server) if adopted else portal_template
    site = Site(portal_server, course_server, portal_server.create(template=template))
    if adopted:
        migrate(site.portal, PORTAL, "portal")
    yield site
    site.close()


def test_each_reads_and_changes_what_the_other_wrote(portal: Site) -> None:
    ada = django(
        portal.portal,
        """
        ada = User.objects.create_user("ada", "ada@example.org", "secret", is_active=False)
        bob = User.objects.create_user("bob", "bob@example.org", "secret", is_staff=True)
        UserProfile.objects.create(user=ada, name="Ada", gender="f", level_of_education="p_se")
        UserProfile.objects.create(user=bob, name="Bob")
        Registration.objects.create(user=ada, activation_key="0" * 32)
        PendingNameChange.objects.create(user=ada, new_name="Ada L.", rationale="married")
        PendingEmailChange.objects.create(
            user=ada, new_email="new@example.org", activation_key="1" * 32)
        group = UserTestGroup.objects.create(name="friends", description="of the house")
        group.users.add(ada, bob)
        CourseEnrollment.objects.create(user=ada, course_id="A")
        CourseEnrollment.objects.create(user=bob, course_id="A")
        role, created = Role.objects.get_or_create(course_id="A", name="Student")
        assert not created
        bob.roles.add(role)
        Role.objects.create(name="Critic").users.add(bob)
        result = ada.id
        """,
    )
    with portal_session(portal.portal) as session:
        assert accounts.activate(session, "0" * 32) == ada
        assert accounts.pending_name_changes(session) == [("ada", "Ada L.", "married")]
        assert accounts.approve_name_change(session, ada) == "Ada L."
        assert accounts.pending_email_changes(session) == [("ada", "new@example.org")]
        assert accounts.approve_email_change(session, "1" * 32) == ada
        assert groups.list_groups(session) == [("friends", "of the house", 2)]
        assert [m.username for m in groups.group_members(session, "friends")] == ["ada", "bob"]
        bob = accounts.find_user(session, "bob")
        assert roles.roles_of(session, bob) == [
            ("", "Critic"),
            ("A", "Moderator"),
            ("A", "Student"),
        ]
        groups.remove_user_from_group(session, "ada", "friends")
        groups.add_user_to_default_group(session, "ada", "email_helpers")
        key = accounts.register(session, bob)
        accounts.request_name_change(session, ada, "Countess")
        email_key = accounts.request_email_change(session, ada, "third@example.org")
        # The models write, too.
        friends = session.scalars(select(UserTestGroup).filter_by(name="friends")).one()
        session.add(UserTestGroup(name="others", users=friends.users))
        session.add(Role(name="Student", course_id="B", users=friends.users))
        assert session.scalars(select(PendingNameChange)).one().user.username == "ada"
        assert session.scalars(select(PendingEmailChange)).one().activation_key == email_key
        assert {each.user.username for each in session.scalars(select(Registration))} == {
            "ada",
            "bob",
        }

    assert django(
        portal.portal,
        """
        ada, bob = User.objects.get(username="ada"), User.objects.get(username="bob")
        for each in (*Registration.objects.all(), *PendingEmailChange.objects.all(),
                     *PendingNameChange.objects.all(), *UserTestGroup.objects.all(),
                     *Role.objects.all(), *CourseEnrollment.objects.all(), ada, ada.profile):
            each.save()
        result = [
            [ada.is_active, ada.email, ada.profile.name],
            Registration.objects.get(user=bob).activation_key,
            PendingNameChange.objects.get(user=ada).new_name,
            PendingEmailChange.objects.get(user=ada).activation_key,
            sorted(UserTestGroup.objects.values_list("name", "users__username")),
            sorted(bob.roles.values_list("course_id", "name")),
        ]
        PendingEmailChange.objects.all().delete()
        UserTestGroup.objects.get(name="friends").users.clear()
        bob.roles.remove(Role.objects.get(name="Critic"))
        """,
    ) == [
        [True, "new@example.org", "Ada L."],
        key,
        "Countess",
        email_key,
        [["email_helpers", "ada"], ["friends", "bob"], ["others", "bob"]],
        [["", "Critic"], ["A", "Moderator"], ["A", "Student"], ["B", "Student"]],
    ]

    portal.execute("delete from auth_user where username = 'ada'")
    assert django(
        portal.portal,
        """
        result = [
            [registration.user.username for registration in Registration.objects.all()],
            PendingNameChange.objects.count(),
            list(UserTestGroup.objects.filter(users__isnull=False).values_list("name", flat=True)),
            UserProfile.objects.count(),
            sorted(Role.objects.get(course_id="A", name="Student")
                   .users.values_list("username", flat=True)),
        ]
        """,
    ) == [["bob"], 0, ["others"], 1, ["bob"]]


def test_django_still_deletes_users_itself(portal_server: Cluster, course_server: Cluster) -> None:
    site = Site(
        portal_server, course_server, portal_server.create(template=new_site(portal_server))
    )
    try:
        migrate(site.portal, PORTAL, "portal")
        assert django(
            site.portal,
            """
            ada = User.objects.create_user("ada", "ada@example.org")
            UserProfile.objects.create(user=ada)
            Registration.objects.create(user=ada, activation_key="0" * 32)
            UserTestGroup.objects.create(name="friends").users.add(ada)
            CourseEnrollment.objects.create(user=ada, course_id="A")
            ada.delete()
            result = [Registration.objects.count(), User.objects.count(),
                      Role.objects.get().users.count()]
            """,
        ) == [0, 0, 0]
    finally:
        site.close()
