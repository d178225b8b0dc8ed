"""Which types of a table that was there do for which declared columns."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Integer, String, Text

from pysync.adoption.types import type_fits
from pysync.models.columns import type_name
from pysync.types import Side

FITS: list[tuple[str, Any, bool, bool]] = [
    # found, declared, on the portal, in a course
    ("date", Date, True, True),
    ("timestamp with time zone", Date, False, False),
    ("date", DateTime(timezone=True), False, False),
    ("timestamp without time zone", DateTime(timezone=True), False, False),
    ("boolean", Boolean, True, True),
    ("integer", Integer, True, True),
    ("integer", BigInteger, True, False),
    ("bigint", Integer, False, True),
    ("character varying(30)", String(50), True, False),
    ("character varying(50)", String(50), True, True),
    ("text", String(50), False, True),
    ("character varying(50)", Text, True, False),
    ("integer", Text, False, False),
]


@pytest.mark.parametrize(("found", "declared", "on_portal", "in_course"), FITS)
def test_values_must_fit_in_the_direction_in_which_they_travel(
    found: str, declared: Any, on_portal: bool, in_course: bool
) -> None:
    column = type_name(Column("value", declared))
    assert type_fits(found, column, Side.PORTAL) is on_portal
    assert type_fits(found, column, Side.COURSE) is in_course
