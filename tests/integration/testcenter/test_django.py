"""Django's test-center models of 2012 and pysync on the same tables, whoever made them."""

from __future__ import annotations

import pytest

from pysync.db.sessions import portal_session
from pysync.students import accounts, testcenter
from tests.django_site.process import django
from tests.integration.test_accounts_django import portal
from tests.support import Site

pytestmark = pytest.mark.newest("Django's part differs by Django's version")

__all__ = ["portal"]

FORM = {
    "first_name": "Ada",
    "middle_name": "",
    "last_name": "Lovelace",
    "suffix": "",
    "salutation": "",
    "address_1": "1 St. James's Square",
    "address_2": "",
    "address_3": "",
    "city": "London",
    "state": "",
    "postal_code": "",
    "country": "GBR",
    "phone": "555",
    "extension": "",
    "phone_country_code": "044",
    "fax": "",
    "fax_country_code": "",
    "company_name": "",
}
EXAM = {
    "Exam_Series_Code": "6002x",
    "First_Eligible_Appointment_Date": "2012-12-17",
    "Last_Eligible_Appointment_Date": "2012-12-30",
}


def test_each_reads_and_changes_what_the_other_wrote(portal: Site) -> None:
    ada, bob = django(
        portal.portal,
        f"""
        import datetime
        ada = User.objects.create_user("ada", "ada@example.org")
        bob = User.objects.create_user("bob", "bob@example.org")
        now = datetime.datetime.now(datetime.UTC)
        person = TestCenterUser.objects.create(
            user=ada, user_updated_at=now, client_candidate_id="edX1", **{FORM})
        TestCenterRegistration.objects.create(
            testcenter_user=person, course_id="A", user_updated_at=now,
            client_authorization_id="edX1", exam_series_code="6002x",
            eligibility_appointment_date_first=datetime.date(2012, 12, 17),
            eligibility_appointment_date_last=datetime.date(2012, 12, 30))
        result = [ada.id, bob.id]
        """,
    )
    with portal_session(portal.portal) as session:
        assert accounts.find_user(session, "ada") == ada
        assert testcenter.get_testcenter_user(session, ada).last_name == "Lovelace"
        assert not testcenter.needs_update(session, ada, FORM)
        assert testcenter.update(session, ada, FORM | {"last_name": "King"})
        assert len(testcenter.get_testcenter_registrations(session, ada)) == 1
        testcenter.create(session, bob, FORM | {"first_name": "Bob"})
        registered = testcenter.register(session, bob, "A", EXAM)
        assert registered
    assert django(
        portal.portal,
        """
        for each in (*TestCenterUser.objects.all(), *TestCenterRegistration.objects.all()):
            before = each.updated_at
            each.save()
            each.refresh_from_db()
            assert each.updated_at > before
        result = [
            sorted(TestCenterUser.objects.values_list(
                "user__username", "first_name", "last_name", "upload_status")),
            sorted(TestCenterRegistration.objects.values_list(
                "testcenter_user__user__username", "course_id", "exam_series_code",
                "accommodation_code")),
        ]
        """,
    ) == [
        [["ada", "Ada", "King", ""], ["bob", "Bob", "Lovelace", ""]],
        [["ada", "A", "6002x", ""], ["bob", "A", "6002x", ""]],
    ]
    portal.execute("delete from auth_user where username = 'ada'")
    assert portal.execute("select user_id from student_testcenteruser") == [(bob,)]
    assert portal.one("select count(*) from student_testcenterregistration") == 1
