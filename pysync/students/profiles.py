"""What a profile holds: its meta, and which values forms offer."""

import json
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from sqlalchemy import Text, cast, literal
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError

from pysync.db.errors import said
from pysync.db.sessions import Executor, call
from pysync.errors import InvalidValueError, PysyncError

GENDER_CHOICES: Final = (("m", "Male"), ("f", "Female"), ("o", "Other"))
"""Codes and what people read; in SQL: ``student.gender``."""

LEVEL_OF_EDUCATION_CHOICES: Final = (
    ("p_se", "Doctorate in science or engineering"),
    ("p_oth", "Doctorate in another field"),
    ("m", "Master's or professional degree"),
    ("b", "Bachelor's degree"),
    ("hs", "Secondary/high school"),
    ("jhs", "Junior secondary/junior high/middle school"),
    ("el", "Elementary/primary school"),
    ("none", "None"),
    ("other", "Other"),
)
"""Codes and what people read; in SQL: ``student.level_of_education``."""

_YEARS: Final = 120


def valid_years_of_birth(this_year: int | None = None) -> range:
    """Return the 120 years of birth that forms offer, this year first.

    :param this_year: the year to start from; the current one (UTC) by default.
    """
    newest = datetime.now(UTC).year if this_year is None else this_year
    return range(newest, newest - _YEARS, -1)


def get_meta(executor: Executor, user_id: int) -> dict[str, Any]:
    """Return the meta of a user's profile; empty where there is none.

    :raises NotFoundError: if the user has no profile.
    :raises InvalidValueError: if the stored text isn't a JSON object.
    """
    meta: dict[str, Any] = call(executor, "get_meta", user_id)
    return meta


def set_meta(executor: Executor, user_id: int, meta: dict[str, Any]) -> None:
    """Set the meta of a user's profile.

    :param meta: what JSON can hold and PostgreSQL can store: no NaN, no NUL characters.
    :raises NotFoundError: if the user has no profile.
    :raises InvalidValueError: if it isn't such an object.
    """
    remedy = "pass a dictionary of what JSON can hold, without NaN and NUL characters"
    try:
        text = json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"meta of user '{user_id}' refused: {error}", remedy) from None
    try:
        call(executor, "set_meta", user_id, cast(literal(text, Text), JSONB))
    except PysyncError as error:
        cause = error.__cause__
        if isinstance(cause, DBAPIError) and isinstance(cause.orig, psycopg.DataError):
            raise InvalidValueError(
                f"meta of user '{user_id}' refused: {said(cause.orig)}", remedy
            ) from error
        raise
