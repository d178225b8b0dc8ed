"""One student's way to a test center: a form with errors, a registration, the center's answer."""

from dataclasses import dataclass
from typing import Final

from pysync.db.sessions import Executor, portal_session
from pysync.demo.site import Site
from pysync.students import accounts, testcenter, validation
from pysync.students.validation import FieldError

STUDENT: Final = "student-28400"
COURSE: Final = "AAA/2013J"
_FORM: Final = {
    "first_name": "Zoë",
    "last_name": "Łukasik",
    "address_1": "77 Massachusetts Avenue",
    "city": "Cambridge",
    "country": "USA",
    "postal_code": "02139",
    "phone": "617 253 1000",
    "phone_country_code": "1",
}
_CORRECTIONS: Final = {"last_name": "Lukasik", "phone_country_code": "001", "state": "MA"}
_EXAM: Final = {
    "Exam_Series_Code": "AAA-2013J",
    "First_Eligible_Appointment_Date": "2014-06-02",
    "Last_Eligible_Appointment_Date": "2014-06-20",
}


@dataclass(frozen=True)
class Examination:
    """What happened: the form's errors, the ids that were drawn, and the states in their order."""

    student: str
    errors: list[FieldError]
    client_candidate_id: str
    client_authorization_id: str
    states: list[str]


def register(site: Site) -> Examination:
    """Register a student for an exam as the application, up to the test center's acceptance.

    :raises PysyncError: if the portal refuses a step.
    """
    errors = validation.testcenter_user_errors(_FORM)
    with portal_session(site.application) as session:
        user_id = accounts.find_user(session, STUDENT)
        testcenter.create(session, user_id, {**_FORM, **_CORRECTIONS})
        authorization_id = testcenter.register(
            session, user_id, COURSE, _EXAM, "half an hour more, please"
        )
        states = [_state(session, user_id)]
        testcenter.set_accommodation_codes(session, authorization_id, ["ET30MN"])
        states.append(_state(session, user_id))
        testcenter.record_registration_upload(session, authorization_id, "Accepted")
        states.append(_state(session, user_id))
        candidate = testcenter.get_testcenter_user(session, user_id)
    return Examination(STUDENT, errors, candidate.client_candidate_id, authorization_id, states)


def _state(executor: Executor, user_id: int) -> str:
    (registration,) = testcenter.get_testcenter_registrations(executor, user_id)
    return str(registration.state)
