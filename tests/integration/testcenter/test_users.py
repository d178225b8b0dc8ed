"""Test-center users: created, changed, answered for by the test center."""

from __future__ import annotations

import json
import threading
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from pysync.errors import InUseError, InvalidValueError, NotFoundError
from pysync.models.testcenter import TestCenterUser
from pysync.students import accounts, testcenter
from pysync.students.validation import TestCenterUserForm
from tests.integration.fan_out import App, await_lock
from tests.integration.testcenter import GOOD
from tests.support import Site

pytestmark = pytest.mark.oldest_and_newest(
    "SQL on ordinary tables: what the oldest and the newest agree on, those between do as well"
)

CREATE = "select student.create_testcenter_user(%s, %s)"
UPDATE = "select student.update_testcenter_user(%s, %s)"
TIMES = "select created_at, updated_at, user_updated_at from student_testcenteruser"
LONG_AGO = "update student_testcenteruser set user_updated_at = '2012-01-01'"


def create(app: App, username: str, **fields: Any) -> int:
    """Make a test-center user and return the user's id."""
    user = app.user(username)
    app.execute(CREATE, user, json.dumps(GOOD | fields))
    return user


def refusal(app: App, query: str, *arguments: Any) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        app.execute(query, *arguments)
    return caught.value


def test_a_user_is_created_from_the_forms_data(app: App) -> None:
    user = app.user("ada", email="ada@example.org")
    data = GOOD | {"suffix": "\x01\\", "fax": None, "username": "\0", "\0": ["\ud800"]}
    row = app.one(CREATE, user, json.dumps(data))
    (found,) = app.execute(
        "select to_jsonb(u) from student.testcenter_user as u where username = 'ada'"
    )[0]
    assert (found["id"], found["user_id"], found["email"]) == (row, user, "ada@example.org")
    for field in TestCenterUser.user_provided_fields():
        assert found[field] == (data.get(field) or "")
    assert found["client_candidate_id"][:3] == "edX"
    assert 1 <= int(found["client_candidate_id"][3:]) < 10**12
    assert str(int(found["client_candidate_id"][3:])) == found["client_candidate_id"][3:]
    assert (found["candidate_id"], found["upload_status"], found["uploaded_at"]) == (None, "", None)
    assert found["created_at"] == found["updated_at"] == found["user_updated_at"]


def test_bad_data_are_refused_with_all_errors(app: App) -> None:
    user = app.user("ada")
    error = refusal(app, CREATE, user, json.dumps(GOOD | {"country": "USA", "city": "Łódź"}))
    assert error.sqlstate == "PY011"
    assert error.diag.message_primary == (
        "test-center user 'ada' refused: 3 errors, in city, state, postal_code"
    )
    assert json.loads(error.diag.message_detail or "") == [
        {"field": "city", "message": "Must only use characters in Latin-1 encoding"},
        {"field": "state", "message": "Required if country is USA or CAN."},
        {"field": "postal_code", "message": "Required if country is USA or CAN."},
    ]
    assert app.one("select count(*) from student_testcenteruser") == 0


def test_who_is_missing_or_there_already_is_told(app: App) -> None:
    user = create(app, "ada")
    assert refusal(app, CREATE, 0, json.dumps(GOOD)).sqlstate == "PY010"
    again = refusal(app, CREATE, user, json.dumps(GOOD))
    assert again.sqlstate == "PY012"
    assert "test-center user 'ada' exists already" in str(again)
    assert refusal(app, UPDATE, 0, json.dumps(GOOD)).sqlstate == "PY010"
    unknown = "select student.record_user_upload('edX0', 'Accepted')"
    assert refusal(app, unknown).sqlstate == "PY010"


def test_an_update_counts_only_if_something_differs(app: App) -> None:
    user = create(app, "ada")
    app.execute(LONG_AGO)
    ((created, before, _),) = app.execute(TIMES)
    needs = "select student.testcenter_user_needs_update(%s, %s)"
    for data, differs in (
        (GOOD, False),
        (GOOD | {"fax": ""}, False),
        (GOOD | {"client_candidate_id": "edX1"}, False),
        (GOOD | {"city": "london"}, True),
        (GOOD | {"city": ""}, True),
        ({}, True),
    ):
        assert app.one(needs, user, json.dumps(data)) is differs
    assert app.one(UPDATE, user, json.dumps(GOOD)) is False
    assert app.execute(TIMES) == [(created, before, app.one("select timestamptz '2012-01-01'"))]
    assert refusal(app, UPDATE, user, json.dumps(GOOD | {"city": ""})).sqlstate == "PY011"
    assert app.one(UPDATE, user, json.dumps(GOOD | {"city": "Zürich", "country": "CHE"})) is True
    ((same, updated, user_updated),) = app.execute(TIMES)
    assert same == created
    assert updated == user_updated > before
    assert app.one("select city from student_testcenteruser") == "Zürich"


def test_a_batch_import_leaves_the_time_of_the_users_change_alone(app: App) -> None:
    create(app, "ada")
    app.execute(LONG_AGO)
    ((_, before, long_ago),) = app.execute(TIMES)
    ours = app.one("select client_candidate_id from student_testcenteruser")
    app.execute(
        "select student.record_user_upload(%s, 'Error', 'no such city', '2012-12-01')", ours
    )
    result = "select upload_status, upload_error_message, candidate_id from student_testcenteruser"
    assert app.execute(result) == [("Error", "no such city", None)]
    app.execute("select student.record_user_upload(%s, 'Accepted', candidate_id => 17)", ours)
    app.execute("select student.record_user_upload(%s, 'Accepted')", ours)
    assert app.execute(result) == [("Accepted", "", 17)]
    app.execute("update student_testcenteruser set updated_at = '2000-01-01', candidate_id = 18")
    ((_, updated, user_updated),) = app.execute(TIMES)
    assert user_updated == long_ago
    assert updated > before, "nobody sets updated_at but the trigger"
    for status, message in (("accepted", ""), (None, ""), ("Error", "x" * 513)):
        call = "select student.record_user_upload(%s, %s, %s)"
        assert refusal(app, call, ours, status, message).sqlstate == "PY011"


def test_a_test_center_user_goes_with_the_user(app: App) -> None:
    user = create(app, "ada")
    create(app, "bob")
    app.execute("delete from auth_user where id = %s", user)
    assert app.execute("select username from student.testcenter_user") == [("bob",)]


@pytest.fixture
def ids(site: Site, request: pytest.FixtureRequest) -> Site:
    """A portal whose generator draws from few ids: collisions are certain."""
    site.execute(
        "create or replace function student.new_client_id() returns text language sql volatile"
        f" set search_path = '' as $$ {request.param} $$"
    )
    return site


@pytest.mark.parametrize("ids", ["select 'edX' || 1 + floor(random() * 24)::int"], indirect=True)
def test_sessions_that_race_for_few_ids_all_get_one(ids: Site) -> None:
    ids.execute(
        "insert into auth_user (username, password) select g, '' from generate_series(1, 24) g"
    )
    users = [user for (user,) in ids.execute("select id from auth_user")]
    started = threading.Barrier(4)
    failures: list[BaseException] = []

    def work(mine: list[int]) -> None:
        try:
            connection = ids.connect()
            started.wait()
            for user in mine:
                connection.execute(CREATE, (user, json.dumps(GOOD)))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(users[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    taken = ids.execute("select client_candidate_id from student_testcenteruser")
    assert {name for (name,) in taken} == {f"edX{n}" for n in range(1, 25)}
    ids.execute("insert into auth_user (username, password) values ('late', '')")
    with pytest.raises(psycopg.Error, match="every id drawn is in use") as caught:
        ids.execute(CREATE.replace("%s", "(select max(id) from auth_user)", 1), json.dumps(GOOD))
    assert caught.value.sqlstate == "PY012"


def test_of_two_sessions_with_one_id_the_second_waits_and_draws_again(site: Site) -> None:
    site.execute("create sequence drawn")
    site.execute(
        "create or replace function student.new_client_id() returns text language sql volatile"
        " set search_path = '' as $$ select 'edX' || nextval('public.drawn') / 3 $$"
    )
    ada, bob = (
        site.one("insert into auth_user (username, password) values (%s, '') returning id", name)
        for name in ("ada", "bob")
    )
    first, second = site.connect(), site.connect()
    first.execute("begin")
    first.execute(CREATE, (ada, json.dumps(GOOD)))
    thread = threading.Thread(target=second.execute, args=(CREATE, (bob, json.dumps(GOOD))))
    thread.start()
    await_lock(site, second.info.backend_pid)
    first.execute("commit")
    thread.join(20)
    assert site.execute("select client_candidate_id from student_testcenteruser order by id") == [
        ("edX0",),
        ("edX1",),
    ]


def test_two_sessions_that_bring_the_same_user(app: App) -> None:
    user = app.user("ada")
    first, second = app.connect(), app.connect()
    first.execute("begin")
    first.execute(CREATE, (user, json.dumps(GOOD)))
    found: list[str | None] = []

    def work() -> None:
        try:
            second.execute(CREATE, (user, json.dumps(GOOD)))
        except psycopg.Error as error:
            found.append(error.sqlstate)

    thread = threading.Thread(target=work)
    thread.start()
    await_lock(app.site, second.info.backend_pid)
    first.execute("commit")
    thread.join(20)
    assert found == ["PY012"]
    assert app.one("select count(*) from student_testcenteruser") == 1


@pytest.mark.newest("Python's part, on SQL that is tested beside it")
def test_python_does_the_same_in_the_callers_transaction(app: App) -> None:
    app.user("ada")
    engine = create_engine("postgresql+psycopg://", creator=lambda: app.site.connect(user=app.role))
    with engine.connect() as plain, Session(engine) as session:
        plain.connection.driver_connection.autocommit = False  # type: ignore[union-attr]
        user = accounts.find_user(plain, "ada")
        with pytest.raises(NotFoundError, match="user 'bob' unknown"), plain.begin_nested():
            accounts.find_user(plain, "bob")
        with pytest.raises(NotFoundError):
            testcenter.get_testcenter_user(plain, user)
        testcenter.create(plain, user, TestCenterUserForm(**GOOD))
        assert app.execute("select from student_testcenteruser") == [], "the caller commits"
        plain.commit()
        with pytest.raises(InUseError, match="exists already"):
            testcenter.create(session, user, GOOD)
        session.rollback()
        with pytest.raises(InvalidValueError, match="1 error, in city"):
            testcenter.update(session, user, GOOD | {"city": ""})
        session.rollback()
        assert testcenter.needs_update(session, user, GOOD) is False
        assert testcenter.update(session, user, GOOD | {"city": "Zürich"}) is True
        found = session.scalars(select(TestCenterUser)).one()
        assert found.email == "ada@example.org"
        assert found.needs_update(GOOD)
        assert not found.needs_update(GOOD | {"city": "Zürich", "fax": None})
        testcenter.record_user_upload(
            session, found.client_candidate_id, "Accepted", candidate_id=17
        )
        session.commit()
        row = testcenter.get_testcenter_user(session, user)
        assert (row.username, row.city, row.candidate_id) == ("ada", "Zürich", 17)
    engine.dispose()
