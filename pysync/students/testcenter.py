"""Test-center users and their registrations, by the functions of schema ``student``."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, JSON, DateTime, Row, Text, column, func, literal, select, table, text
from sqlalchemy.sql.elements import BindParameter

from pysync.db.sessions import Executor, call, call_rows, translated_calls
from pysync.errors import NotFoundError
from pysync.models.testcenter import AccommodationCode
from pysync.students.validation import FieldError, TestCenterUserForm

UserData = TestCenterUserForm | Mapping[str, Any]
"""The fields that a user fills in, by name; fields that a form doesn't have are ignored."""


def create(executor: Executor, user_id: int, data: UserData) -> int:
    """Make a user a test-center user, with a fresh ``client_candidate_id``.

    :returns: the row's id.
    :raises NotFoundError: if there is no such user.
    :raises InvalidValueError: if the data have errors.
    :raises InUseError: if the user is a test-center user already.
    """
    return int(call(executor, "create_testcenter_user", user_id, _json(data)))


def update(executor: Executor, user_id: int, data: UserData) -> bool:
    """Change a test-center user's data as the form does, ``user_updated_at`` with them.

    :returns: whether any of the fields differed; if none did, nothing is changed.
    :raises NotFoundError: if the user is no test-center user.
    :raises InvalidValueError: if the data have errors.
    """
    return bool(call(executor, "update_testcenter_user", user_id, _json(data)))


def needs_update(executor: Executor, user_id: int, data: UserData) -> bool:
    """Tell whether any of the fields that the user fills in differs from the data.

    :raises NotFoundError: if the user is no test-center user.
    """
    return bool(call(executor, "testcenter_user_needs_update", user_id, _json(data)))


def get_testcenter_user(executor: Executor, user_id: int) -> Row[Any]:
    """Return a test-center user with username and e-mail address, as the view has it.

    :raises NotFoundError: if the user is no test-center user.
    """
    found = _of_user(executor, "testcenter_user", user_id)
    if not found:
        raise NotFoundError(
            f"test-center user of user '{user_id}' doesn't exist",
            "create it with 'pysync testcenter create'",
        )
    return found[0]


def register(
    executor: Executor,
    user_id: int,
    course_id: str,
    exam_info: Mapping[str, Any],
    accommodation_request: str = "",
) -> str:
    """Register a test-center user for a course's exam.

    :param exam_info: ``Exam_Series_Code``, ``First_Eligible_Appointment_Date`` and
        ``Last_Eligible_Appointment_Date``, dates as ``YYYY-MM-DD``.
    :returns: the fresh ``client_authorization_id``.
    :raises NotFoundError: if the user is no test-center user.
    :raises InvalidValueError: if anything has errors.
    """
    data = (user_id, course_id, _json(exam_info), accommodation_request)
    return str(call(executor, "create_testcenter_registration", *data))


def registration_errors(
    executor: Executor,
    course_id: str,
    exam_info: Mapping[str, Any],
    accommodation_request: str = "",
) -> list[FieldError]:
    """Return all errors of what a registration is made from; see :func:`register`."""
    data = (course_id, _json(exam_info), accommodation_request)
    found = call_rows(executor, "testcenter_registration_errors", *data)
    return [FieldError(error.field, error.message) for error in found]


def request_accommodation(
    executor: Executor, client_authorization_id: str, accommodation_request: str
) -> None:
    """Change a registration's accommodation request, ``user_updated_at`` with it.

    :raises NotFoundError: if there is no such registration.
    :raises InvalidValueError: if the request is longer than 1,024 characters.
    """
    call(executor, "update_testcenter_registration", client_authorization_id, accommodation_request)


def set_accommodation_codes(
    executor: Executor, client_authorization_id: str, codes: Sequence[str]
) -> None:
    """Set a registration's accommodation codes.

    :raises NotFoundError: if there is no such registration.
    :raises InvalidValueError: if a code isn't in the list, or they don't fit.
    """
    listed = literal(list(codes), ARRAY(Text))
    call(executor, "set_accommodation_codes", client_authorization_id, listed)


def accommodation_codes(executor: Executor) -> dict[str, str]:
    """Return the display names of all accommodation codes, by code."""
    query = select(AccommodationCode.code, AccommodationCode.display_name)
    with translated_calls():
        rows = executor.execute(query.order_by(AccommodationCode.code)).all()
    return {row.code: row.display_name for row in rows}


def record_registration_upload(
    executor: Executor,
    client_authorization_id: str,
    upload_status: str,
    upload_error_message: str = "",
    *,
    uploaded_at: datetime | None = None,
) -> None:
    """Record what the test center says of a registration; ``user_updated_at`` stays.

    :param upload_status: ``Accepted``, ``Error``, or empty for no answer.
    :param uploaded_at: by default now.
    :raises NotFoundError: if there is no such registration.
    :raises InvalidValueError: if it is none of these, or the message is too long.
    """
    answer = (upload_status, upload_error_message, _time(uploaded_at))
    call(executor, "record_registration_upload", client_authorization_id, *answer)


def record_user_upload(
    executor: Executor,
    client_candidate_id: str,
    upload_status: str,
    upload_error_message: str = "",
    *,
    uploaded_at: datetime | None = None,
    candidate_id: int | None = None,
) -> None:
    """Record what the test center says of a user; ``user_updated_at`` stays.

    :param candidate_id: the id that the test center gave the user; kept if not given.
    :raises NotFoundError: if there is no such test-center user.
    :raises InvalidValueError: as :func:`record_registration_upload`.
    """
    answer = (upload_status, upload_error_message, _time(uploaded_at), candidate_id)
    call(executor, "record_user_upload", client_candidate_id, *answer)


def get_testcenter_registrations_for_user_and_course(
    executor: Executor, user_id: int, course_id: str, exam_series_code: str | None = None
) -> Sequence[Row[Any]]:
    """Return a user's registrations for a course as the view has them, with state.

    :param exam_series_code: only of this exam series; of all if left out.
    :returns: nothing for a user who is no test-center user.
    """
    return call_rows(executor, "testcenter_registrations", user_id, course_id, exam_series_code)


def get_testcenter_registrations(executor: Executor, user_id: int) -> Sequence[Row[Any]]:
    """Return all of a user's registrations as the view has them, with state."""
    return _of_user(executor, "testcenter_registration", user_id)


def _of_user(executor: Executor, view: str, user_id: int) -> Sequence[Row[Any]]:
    rows = table(view, column("user_id"), column("id"), schema="student")
    query = select(text("*")).select_from(rows).order_by(rows.c.id)
    with translated_calls():
        return executor.execute(query.where(rows.c.user_id == user_id)).all()


def _json(data: UserData) -> BindParameter[Any]:
    return literal(data.model_dump() if isinstance(data, TestCenterUserForm) else dict(data), JSON)


def _time(when: datetime | None) -> Any:
    return func.now() if when is None else literal(when, DateTime(timezone=True))
