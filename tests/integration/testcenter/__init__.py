"""Test-center users and registrations, through SQL as an application does it."""

from __future__ import annotations

from typing import Final

from tests.testcenter_rows import GOOD

__all__ = ["EXAM", "GOOD"]

EXAM: Final = {
    "Exam_Series_Code": "6002x",
    "First_Eligible_Appointment_Date": "2012-12-15",
    "Last_Eligible_Appointment_Date": "2012-12-30",
}
