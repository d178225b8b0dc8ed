"""Registrations: created, looked up, accommodated, answered by the test center."""

from __future__ import annotations

import itertools
import json
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from pysync.errors import InvalidValueError, NotFoundError
from pysync.models.testcenter import ACCOMMODATION_CODES, TestCenterRegistration
from pysync.students import testcenter
from tests.integration.fan_out import App
from tests.integration.testcenter import EXAM
from tests.integration.testcenter.test_users import create, refusal

pytestmark = pytest.mark.oldest_and_newest(
    "SQL on ordinary tables: what the oldest and the newest agree on, those between do as well"
)

REGISTER = "select student.create_testcenter_registration(%s, %s, %s, %s)"
FIND = "select course_id, exam_series_code, state from student.testcenter_registrations"
NAMES = {
    "EQPMNT": "Equipment",
    "ET12ET": "Extra Time - 1/2 Exam Time",
    "ET30MN": "Extra Time - 30 Minutes",
    "ETDBTM": "Extra Time - Double Time",
    "SEPRMM": "Separate Room",
    "SRREAD": "Separate Room & Reader",
    "SRRERC": "Separate Room & Reader/Recorder",
    "SRRECR": "Separate Room & Recorder",
    "SRSEAN": "Separate Room & Service Animal",
    "SRSGNR": "Separate Room & Sign Lang Interp",
}


def register(app: App, user: int, course: str = "A", request: str = "", **exam: Any) -> str:
    return str(app.one(REGISTER, user, course, json.dumps(EXAM | exam), request))


def test_a_registration_is_created_and_found(app: App) -> None:
    ada, bob = create(app, "ada"), app.user("bob")
    first = register(app, ada, "A", "more time ☎", Other="\0")
    second = register(app, ada, "A", Exam_Series_Code="été")
    register(app, ada, "B")
    assert first != second
    assert first.startswith("edX")
    assert len(first) <= 20
    assert app.execute(f"{FIND}(%s, 'A')", ada) == [
        ("A", "6002x", "pending accommodation"),
        ("A", "été", "pending acknowledgement"),
    ]
    assert app.execute(f"{FIND}(%s, 'A', 'été')", ada) == [("A", "été", "pending acknowledgement")]
    assert app.execute(f"{FIND}(%s, 'C')", ada) == []
    assert app.execute(f"{FIND}(%s, 'A')", bob) == []
    (found,) = app.execute(
        "select r.username, r.candidate_id, r.client_candidate_id = u.client_candidate_id,"
        " r.eligibility_appointment_date_first::text, r.eligibility_appointment_date_last::text,"
        " r.accommodation_request, r.created_at = r.user_updated_at"
        " from student.testcenter_registration as r join student.testcenter_user as u"
        " on u.id = testcenter_user_id where client_authorization_id = %s",
        first,
    )
    assert found == ("ada", None, True, "2012-12-15", "2012-12-30", "more time ☎", True)
    assert refusal(app, REGISTER, bob, "A", json.dumps(EXAM), "").sqlstate == "PY010"


ERRORS: list[tuple[dict[str, Any], str | None, str | None, dict[str, str]]] = [
    ({}, "A", None, {}),
    ({}, "A" * 128, "x" * 1024, {}),
    ({"First_Eligible_Appointment_Date": "2012-12-30"}, "A", "", {}),
    ({"First_Eligible_Appointment_Date": "2012-1-5"}, "A", "", {}),
    (
        {"Exam_Series_Code": "x" * 16},
        "A" * 129,
        "☎" * 1025,
        {
            "course_id": "Ensure this value has at most 128 characters (it has 129).",
            "Exam_Series_Code": "Ensure this value has at most 15 characters (it has 16).",
            "accommodation_request": "Ensure this value has at most 1024 characters (it has 1025).",
        },
    ),
    (
        {"Exam_Series_Code": None, "First_Eligible_Appointment_Date": "soon"},
        None,
        "",
        {
            "course_id": "This field is required.",
            "Exam_Series_Code": "This field is required.",
            "First_Eligible_Appointment_Date": "Enter a valid date: YYYY-MM-DD.",
        },
    ),
    (
        {
            "Exam_Series_Code": 6002,
            "First_Eligible_Appointment_Date": 20121215,
            "Last_Eligible_Appointment_Date": "2012-02-30",
        },
        "",
        "",
        {
            "course_id": "This field is required.",
            "Exam_Series_Code": "Must be text.",
            "First_Eligible_Appointment_Date": "Must be text.",
            "Last_Eligible_Appointment_Date": "Enter a valid date: YYYY-MM-DD.",
        },
    ),
    (
        {"Exam_Series_Code": "6\0", "Last_Eligible_Appointment_Date": "2012-12-14"},
        "A",
        "",
        {
            "Exam_Series_Code": "Null characters are not allowed.",
            "Last_Eligible_Appointment_Date": "Must not be before First_Eligible_Appointment_Date.",
        },
    ),
    (
        {"Exam_Series_Code": "6\ud800", "Last_Eligible_Appointment_Date": "infinity"},
        "A",
        "",
        {
            "Exam_Series_Code": "Must only use characters in Latin-1 encoding",
            "Last_Eligible_Appointment_Date": "Enter a valid date: YYYY-MM-DD.",
        },
    ),
    (
        {"Last_Eligible_Appointment_Date": ""},
        "A",
        "",
        {"Last_Eligible_Appointment_Date": "This field is required."},
    ),
    (
        {"Last_Eligible_Appointment_Date": "0000-01-01"},
        "A",
        "",
        {"Last_Eligible_Appointment_Date": "Enter a valid date: YYYY-MM-DD."},
    ),
]


def test_what_a_registration_is_made_from_is_checked(app: App) -> None:
    ada = create(app, "ada")
    for exam, course, request, expected in ERRORS:
        arguments = (course, json.dumps(EXAM | exam), request)
        found = app.execute(
            "select * from student.testcenter_registration_errors(%s, %s, %s)", *arguments
        )
        assert found == list(expected.items())
        if expected:
            error = refusal(app, REGISTER, ada, *arguments)
            assert error.sqlstate == "PY011"
            assert f", in {', '.join(expected)}" in str(error)
            listed = json.loads(error.diag.message_detail or "")
            assert {each["field"]: each["message"] for each in listed} == expected
        else:
            app.execute(REGISTER, ada, *arguments)


def test_states_are_what_the_columns_say(app: App) -> None:
    """Each predicate as in 2012, in SQL, in the view and in Python; one state by precedence."""
    ada = create(app, "ada")
    for status, request, code in itertools.product(
        ("", "Accepted", "Error"), ("", "time"), ("", "ET12ET")
    ):
        registered = register(app, ada, request=request)
        app.execute(
            "update student_testcenterregistration set upload_status = %s, accommodation_code = %s"
            " where client_authorization_id = %s",
            status,
            code,
            registered,
        )
        in_python = TestCenterRegistration(
            upload_status=status, accommodation_request=request, accommodation_code=code
        )
        pending = request != "" and code == ""
        expected = (
            status == "Accepted",
            status == "Error",
            pending,
            status == "" and not pending,
        )
        assert expected == (
            in_python.is_accepted(),
            in_python.is_rejected(),
            in_python.is_pending_accommodation(),
            in_python.is_pending_acknowledgement(),
        )
        names = ("accepted", "rejected", "pending accommodation", "pending acknowledgement")
        assert app.execute(
            "select is_accepted, is_rejected, is_pending_accommodation,"
            " is_pending_acknowledgement, state from student.testcenter_registration"
            " where client_authorization_id = %s",
            registered,
        ) == [(*expected, names[expected.index(True)])]
        assert app.execute(
            "select student.is_accepted(r), student.is_rejected(r),"
            " student.is_pending_accommodation(r), student.is_pending_acknowledgement(r)"
            " from student_testcenterregistration as r where client_authorization_id = %s",
            registered,
        ) == [expected]


def test_accommodation_codes_come_from_the_list(app: App) -> None:
    registered = register(app, create(app, "ada"), request="time")
    codes = "select accommodation_code, student.accommodation_names(accommodation_code) from student_testcenterregistration"
    assert app.execute(codes) == [("", [])]
    call = "select student.set_accommodation_codes(%s, %s)"
    app.execute(call, registered, ["SRREAD", "ET12ET", "SRREAD"])
    assert app.execute(codes) == [
        ("SRREAD*ET12ET", ["Separate Room & Reader", "Extra Time - 1/2 Exam Time"])
    ]
    for refused in (["ET12ET", "nonsense"], [""], [None], ["ET12ET*SRREAD"], list(NAMES)):
        assert refusal(app, call, registered, refused).sqlstate == "PY011"
    assert refusal(app, call, "edX0", ["ET12ET"]).sqlstate == "PY010"
    app.execute(call, registered, [])
    assert app.execute(codes) == [("", [])]
    update = "update student_testcenterregistration set accommodation_code = %s"
    for text in ("nonsense", "*", "ET12ET*", "ET12ET**SRREAD", "ET12ET ", "et12et"):
        error = refusal(app, update, text)
        assert (
            error.diag.constraint_name == "student_testcenterregistration_accommodation_code_check"
        )
    for code in NAMES:
        app.execute(update, code)
    app.execute(update, "*".join([*NAMES][:9]))
    assert dict(app.execute("select code, display_name from student.accommodation_code")) == NAMES
    assert list(NAMES) == list(ACCOMMODATION_CODES)


def test_a_persons_change_and_a_batch_import_differ_in_user_updated_at(app: App) -> None:
    registered = register(app, create(app, "ada"))
    times = "select updated_at, user_updated_at from student_testcenterregistration"
    for statement, by_person in (
        ("select student.record_registration_upload(%s, 'Error', 'no such exam')", False),
        ("select student.record_registration_upload(%s, 'Accepted', null, '2012-12-01')", False),
        ("select student.update_testcenter_registration(%s, 'more time')", True),
        ("select student.set_accommodation_codes(%s, array['ET12ET'])", True),
        ("select student.update_testcenter_registration(%s, null)", True),
    ):
        app.execute("update student_testcenterregistration set user_updated_at = '2012-01-01'")
        ((before, _),) = app.execute(times)
        app.execute(statement, registered)
        ((updated, user_updated),) = app.execute(times)
        assert updated > before
        assert (user_updated == updated) is by_person
        assert refusal(app, statement, "edX0").sqlstate == "PY010"
    call = "select student.update_testcenter_registration(%s, %s)"
    assert refusal(app, call, registered, "x" * 1025).sqlstate == "PY011"


def test_other_clients_meet_the_same_rules(app: App) -> None:
    ada = create(app, "ada")
    registered = register(app, ada)
    for change, constraint in {
        "course_id = ''": "course_id_check",
        "exam_series_code = ''": "exam_series_code_check",
        "exam_series_code = 'Ω'": "exam_series_code_check",
        "eligibility_appointment_date_last = '2012-12-14'": "dates_check",
        "upload_status = 'Rejected'": "upload_status_check",
        "client_authorization_id = ''": "client_authorization_id_check",
    }.items():
        error = refusal(app, f"update student_testcenterregistration set {change}")
        assert error.diag.constraint_name == f"student_testcenterregistration_{constraint}"
    with pytest.raises(psycopg.errors.UniqueViolation):
        app.execute(
            "insert into student_testcenterregistration (testcenter_user_id, course_id,"
            " client_authorization_id, exam_series_code, eligibility_appointment_date_first,"
            " eligibility_appointment_date_last) select testcenter_user_id, 'B', %s, '1', '2012-12-15',"
            " '2012-12-15' from student_testcenterregistration",
            registered,
        )
    app.execute("delete from auth_user where id = %s", ada)
    assert app.execute("select from student_testcenterregistration") == []


@pytest.mark.newest("Python's part, on SQL that is tested beside it")
def test_python_does_the_same(app: App) -> None:
    ada = create(app, "ada")
    engine = create_engine("postgresql+psycopg://", creator=app.connect)
    with Session(engine) as session:
        found = testcenter.get_testcenter_registrations_for_user_and_course
        assert found(session, ada, "A") == []
        with pytest.raises(InvalidValueError, match="2 errors, in course_id, Exam_Series_Code"):
            testcenter.register(session, ada, "", EXAM | {"Exam_Series_Code": ""})
        errors = testcenter.registration_errors(session, "", EXAM)
        assert errors == [("course_id", "This field is required.")]
        registered = testcenter.register(session, ada, "A", EXAM, "more time")
        assert [row.state for row in found(session, ada, "A", "6002x")] == ["pending accommodation"]
        assert found(session, ada, "A", "other") == []
        with pytest.raises(InvalidValueError, match="not in the list: 'nonsense'"):
            testcenter.set_accommodation_codes(session, registered, ["nonsense"])
        testcenter.set_accommodation_codes(session, registered, ["ET12ET", "SEPRMM"])
        (row,) = session.scalars(select(TestCenterRegistration))
        assert row.is_pending_acknowledgement()
        assert (row.candidate_id, row.client_candidate_id[:3]) == (None, "edX")
        testcenter.request_accommodation(session, registered, "")
        testcenter.record_registration_upload(session, registered, "Accepted")
        assert [row.state for row in testcenter.get_testcenter_registrations(session, ada)] == [
            "accepted"
        ]
        with pytest.raises(NotFoundError, match="registration 'edX0' doesn't exist"):
            testcenter.record_registration_upload(session, "edX0", "Accepted")
        assert testcenter.accommodation_codes(session) == NAMES
    engine.dispose()
