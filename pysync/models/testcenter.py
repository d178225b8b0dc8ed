"""Test-center users and registrations: tables of the portal, in schema public."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import CheckConstraint, Date, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from pysync.models.columns import Id, TimeOfChange, points_at
from pysync.models.portal import PortalBase, User

USER_PROVIDED_FIELDS: Final = (
    "first_name",
    "middle_name",
    "last_name",
    "suffix",
    "salutation",
    "address_1",
    "address_2",
    "address_3",
    "city",
    "state",
    "postal_code",
    "country",
    "phone",
    "extension",
    "phone_country_code",
    "fax",
    "fax_country_code",
    "company_name",
)
"""The fields of a test-center user that its user fills in, in the form's order."""

ACCOMMODATION_CODES: Final = (
    "EQPMNT",
    "ET12ET",
    "ET30MN",
    "ETDBTM",
    "SEPRMM",
    "SRREAD",
    "SRRERC",
    "SRRECR",
    "SRSEAN",
    "SRSGNR",
)
"""The codes that ``accommodation_code`` may list; their names are in the portal."""


def _latin1(column: str) -> str:
    return rf"{column} !~ '[^\u0001-\u00ff]'"


def _user_rules() -> dict[str, str]:
    """Return the form's rules: one constraint per field, named like it."""
    required = ("first_name", "last_name", "address_1", "city", "phone")
    rules = {
        field: f"{field} <> '' and {_latin1(field)}" if field in required else _latin1(field)
        for field in USER_PROVIDED_FIELDS
    }
    for field in ("state", "postal_code"):
        rules[field] += f" and ({field} <> '' or country::text not in ('USA', 'CAN'))"
    for field in ("country", "phone_country_code"):
        rules[field] += f" and length({field}) = 3"
    rules["fax_country_code"] += (
        " and length(fax_country_code) in (0, 3) and (fax_country_code <> '' or fax = '')"
    )
    return rules | {
        "client_candidate_id": "client_candidate_id <> ''",
        "upload_status": "upload_status::text in ('', 'Error', 'Accepted')",
    }


def _registration_rules() -> dict[str, str]:
    codes = ", ".join(f"'{code}'" for code in ACCOMMODATION_CODES)
    return {
        "course_id": "course_id <> ''",
        "client_authorization_id": "client_authorization_id <> ''",
        "exam_series_code": f"exam_series_code <> '' and {_latin1('exam_series_code')}",
        "dates": ("eligibility_appointment_date_last >= eligibility_appointment_date_first"),
        "accommodation_code": f"string_to_array(accommodation_code, '*') <@ array[{codes}]",
        "upload_status": "upload_status::text in ('', 'Error', 'Accepted')",
    }


def _blank(length: int, *, index: bool = False) -> Any:
    return mapped_column(String(length), server_default=text("''"), index=index or None)


class TestCenterUser(PortalBase):
    """A user as the test center knows them; the fields are modelled on Pearson's import system."""

    __test__ = False  # whatever pytest takes the name for
    __tablename__ = "student_testcenteruser"
    __table_args__ = (
        *(CheckConstraint(rule, name=column) for column, rule in _user_rules().items()),
        {"schema": "public"},
    )

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(points_at(), unique=True)
    created_at: Mapped[TimeOfChange] = mapped_column(index=True)
    updated_at: Mapped[TimeOfChange] = mapped_column(index=True)
    user_updated_at: Mapped[TimeOfChange] = mapped_column(index=True)
    candidate_id: Mapped[int | None] = mapped_column(Integer, index=True)
    client_candidate_id: Mapped[str] = mapped_column(String(50), unique=True)
    first_name: Mapped[str] = mapped_column(String(30), index=True)
    last_name: Mapped[str] = mapped_column(String(50), index=True)
    middle_name: Mapped[str] = _blank(30)
    suffix: Mapped[str] = _blank(255)
    salutation: Mapped[str] = _blank(50)
    address_1: Mapped[str] = mapped_column(String(40))
    address_2: Mapped[str] = _blank(40)
    address_3: Mapped[str] = _blank(40)
    city: Mapped[str] = mapped_column(String(32), index=True)
    state: Mapped[str] = _blank(20, index=True)
    postal_code: Mapped[str] = _blank(16, index=True)
    country: Mapped[str] = mapped_column(String(3), index=True)
    phone: Mapped[str] = mapped_column(String(35))
    extension: Mapped[str] = _blank(8, index=True)
    phone_country_code: Mapped[str] = mapped_column(String(3), index=True)
    fax: Mapped[str] = _blank(35)
    fax_country_code: Mapped[str] = _blank(3)
    company_name: Mapped[str] = _blank(50, index=True)
    upload_status: Mapped[str] = _blank(20, index=True)
    uploaded_at: Mapped[datetime | None] = mapped_column(index=True)
    upload_error_message: Mapped[str] = _blank(512)

    user: Mapped[User] = relationship(viewonly=True)

    @staticmethod
    def user_provided_fields() -> list[str]:
        """Return the names of the fields that the user fills in, in the form's order."""
        return list(USER_PROVIDED_FIELDS)

    @property
    def email(self) -> str:
        """Return the user's e-mail address, which the portal keeps with the account."""
        return self.user.email

    def needs_update(self, data: Mapping[str, Any]) -> bool:
        """Tell whether any of the fields that the user fills in differs from the data.

        :param data: values by field; null and missing count as empty.
        """
        return any(getattr(self, name) != (data.get(name) or "") for name in USER_PROVIDED_FIELDS)


class TestCenterRegistration(PortalBase):
    """That a test-center user may take a course's exam."""

    __test__ = False  # whatever pytest takes the name for
    __tablename__ = "student_testcenterregistration"
    __table_args__ = (
        *(CheckConstraint(rule, name=name) for name, rule in _registration_rules().items()),
        Index("student_testcenterregistration_first_idx", "eligibility_appointment_date_first"),
        Index("student_testcenterregistration_last_idx", "eligibility_appointment_date_last"),
        {"schema": "public"},
    )

    id: Mapped[Id]
    testcenter_user_id: Mapped[int] = mapped_column(
        points_at("public.student_testcenteruser"), index=True
    )
    course_id: Mapped[str] = mapped_column(String(128), index=True)
    created_at: Mapped[TimeOfChange] = mapped_column(index=True)
    updated_at: Mapped[TimeOfChange] = mapped_column(index=True)
    user_updated_at: Mapped[TimeOfChange] = mapped_column(index=True)
    client_authorization_id: Mapped[str] = mapped_column(String(20), unique=True)
    exam_series_code: Mapped[str] = mapped_column(String(15), index=True)
    eligibility_appointment_date_first: Mapped[date] = mapped_column(Date)
    eligibility_appointment_date_last: Mapped[date] = mapped_column(Date)
    accommodation_code: Mapped[str] = _blank(64)
    accommodation_request: Mapped[str] = _blank(1024)
    upload_status: Mapped[str] = _blank(20)
    uploaded_at: Mapped[datetime | None] = mapped_column(index=True)
    upload_error_message: Mapped[str] = _blank(512)

    testcenter_user: Mapped[TestCenterUser] = relationship(viewonly=True)

    @property
    def candidate_id(self) -> int | None:
        """Return the id that the test center gave the user, if it has."""
        return self.testcenter_user.candidate_id

    @property
    def client_candidate_id(self) -> str:
        """Return the id that we gave the user."""
        return self.testcenter_user.client_candidate_id

    def is_accepted(self) -> bool:
        """Tell whether the test center has accepted it."""
        return self.upload_status == "Accepted"

    def is_rejected(self) -> bool:
        """Tell whether the test center has rejected it."""
        return self.upload_status == "Error"

    def is_pending_accommodation(self) -> bool:
        """Tell whether an accommodation was requested for which there is no code yet."""
        return self.accommodation_request != "" and self.accommodation_code == ""

    def is_pending_acknowledgement(self) -> bool:
        """Tell whether it is complete and the test center hasn't answered yet."""
        return self.upload_status == "" and not self.is_pending_accommodation()


class AccommodationCode(PortalBase):
    """A code for how an exam is made accessible, and what it is called."""

    __tablename__ = "accommodation_code"
    __table_args__ = ({"schema": "student"},)

    code: Mapped[str] = mapped_column(primary_key=True)
    display_name: Mapped[str]
