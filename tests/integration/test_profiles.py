"""Profiles: meta as JSON, choices, years of birth, by SQL as an application and from Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session

from pysync.db.sessions import portal_session
from pysync.errors import InvalidValueError, NotFoundError
from pysync.students import profiles
from tests.integration.fan_out import App

pytestmark = pytest.mark.oldest_and_newest(
    "SQL on ordinary tables: what the oldest and the newest agree on, those between do as well"
)

FUNCTIONS = (
    "get_meta(bigint)",
    "set_meta(bigint, jsonb)",
    "valid_years_of_birth()",
    "is_valid_year_of_birth(integer)",
)


@pytest.fixture
def app(app: App) -> App:
    """An application that may call the functions and read the choices."""
    for grant in (
        "usage on schema student",
        *(f"execute on function student.{function}" for function in FUNCTIONS),
        "select on student.gender, student.level_of_education",
    ):
        app.site.execute(f"grant {grant} to {app.role}")
    return app


@pytest.fixture
def session(app: App) -> Iterator[Session]:
    with portal_session(f"{app.site.portal} user={app.role}") as session:
        yield session
        session.rollback()


def refused(app: App, statement: str, *arguments: Any) -> tuple[str | None, str | None]:
    with pytest.raises(psycopg.Error) as caught:
        app.execute(statement, *arguments)
    return caught.value.sqlstate, caught.value.diag.message_primary


def test_meta_is_set_and_read_as_json_and_reaches_the_courses(app: App) -> None:
    app.site.register_only("A")
    ada = app.user("ada")
    app.profile(ada)
    app.enroll(ada, "A")
    assert app.one("select student.get_meta(%s)", ada) == {}
    meta = {"goals": ["to learn", 1.5, None], "name": "Ada Lövelace\n"}
    app.execute("select student.set_meta(%s, %s)", ada, json.dumps(meta))
    assert app.one("select student.get_meta(%s)", ada) == meta
    stored = app.one("select meta from auth_userprofile")
    assert json.loads(stored) == meta
    assert app.site.one("select meta from course.auth_userprofile") == stored


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"x"',
        "null",
        "1",
        " ",
        "{",
        '{"a": NaN}',
        "{'a': 1}",
        '{"a": "\\u0000"}',
        "[" * 100_000,
    ],
)
def test_meta_that_is_no_object_is_told(app: App, text: str) -> None:
    ada = app.user("ada")
    app.profile(ada, meta=text)
    state, message = refused(app, "select student.get_meta(%s)", ada)
    assert (state, message) == ("PY011", f"meta of user '{ada}' unreadable: it isn't a JSON object")


@pytest.mark.parametrize("value", ["[]", '"x"', "null", "1", "true", None])
def test_nothing_but_an_object_is_set(app: App, value: str | None) -> None:
    ada = app.user("ada")
    app.profile(ada, meta='{"kept": true}')
    state, message = refused(app, "select student.set_meta(%s, %s)", ada, value)
    assert state == "PY011"
    assert (message or "").startswith(f"meta of user '{ada}' refused: it must be a JSON object")
    assert app.one("select student.get_meta(%s)", ada) == {"kept": True}


def test_a_user_without_a_profile_is_told(app: App) -> None:
    ada = app.user("ada")
    message = f"profile of user '{ada}' not found: no profile has this user_id"
    assert refused(app, "select student.get_meta(%s)", ada) == ("PY010", message)
    assert refused(app, "select student.set_meta(%s, '{}')", ada) == ("PY010", message)


def test_meta_from_python(app: App, session: Session) -> None:
    ada = app.user("ada")
    app.profile(ada)
    assert profiles.get_meta(session, ada) == {}
    profiles.set_meta(session, ada, {"a": [1, "ü"]})
    assert profiles.get_meta(session.connection(), ada) == {"a": [1, "ü"]}
    with pytest.raises(NotFoundError, match="profile of user '77' not found"):
        profiles.get_meta(session, 77)


@pytest.mark.parametrize(
    "meta",
    [
        {"a": float("nan")},
        {"a": "\0"},
        {"a": "\ud800"},
        pytest.param({"a": object()}, id="object"),
        [],
        None,
        "x",
    ],
    ids=repr,
)
def test_python_refuses_what_json_or_the_database_can_not_hold(
    app: App, session: Session, meta: Any
) -> None:
    ada = app.user("ada")
    app.profile(ada)
    with pytest.raises(InvalidValueError, match=f"meta of user '{ada}' refused"):
        profiles.set_meta(session, ada, meta)


def test_choices_are_those_of_2012_in_their_order(app: App) -> None:
    for table, choices in (
        ("gender", profiles.GENDER_CHOICES),
        ("level_of_education", profiles.LEVEL_OF_EDUCATION_CHOICES),
    ):
        rows = app.execute(f"select code, display_name from student.{table} order by position")
        assert tuple(rows) == choices


def test_years_of_birth_are_this_one_and_the_119_before(app: App, session: Session) -> None:
    this_year = datetime.now(UTC).year
    years = [year for (year,) in app.execute("select student.valid_years_of_birth()")]
    assert years == list(range(this_year, this_year - 120, -1))
    assert years == list(profiles.valid_years_of_birth())
    for year, valid in (
        (this_year + 1, False),
        (this_year, True),
        (this_year - 119, True),
        (this_year - 120, False),
        (None, None),
    ):
        assert app.one("select student.is_valid_year_of_birth(%s)", year) is valid
    assert list(profiles.valid_years_of_birth(2012)) == list(range(2012, 1892, -1))
