"""Users by e-mail address: looked up, changed, counted; and their ids in survey links."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy.orm import Session

from pysync.db.sessions import portal_session
from pysync.db.sql_files import folder
from pysync.errors import InUseError, InvalidValueError, NotFoundError
from pysync.students import users
from tests.integration.fan_out import App, await_lock
from tests.support import Cluster, Site, assert_live_rows, enroll, insert_user

pytestmark = pytest.mark.oldest_and_newest(
    "SQL on ordinary tables: what the oldest and the newest agree on, those between do as well"
)

FUNCTIONS = (
    "user_id_by_email(text)",
    "user_info(text)",
    "check_email_free(text, bigint)",
    "claim_email(text)",
    "change_email(text, text)",
    "change_name(text, text)",
    "user_count()",
    "active_user_count()",
    "unique_id_for_user(bigint, text)",
)


@pytest.fixture
def app(app: App) -> App:
    """An application that may call the functions."""
    app.site.execute(f"grant usage on schema student to {app.role}")
    for function in FUNCTIONS:
        app.site.execute(f"grant execute on function student.{function} to {app.role}")
    app.site.execute(f"grant select, insert, delete on student.email_claim to {app.role}")
    return app


@pytest.fixture
def session(app: App) -> Iterator[Session]:
    with portal_session(f"{app.site.portal} user={app.role}") as session:
        yield session
        session.rollback()


def sqlstate(app: App, statement: str, *arguments: object) -> str | None:
    with pytest.raises(psycopg.Error) as caught:
        app.execute(statement, *arguments)
    assert caught.value.diag.message_hint
    return caught.value.sqlstate


def test_a_user_is_found_by_email(app: App, session: Session) -> None:
    ada = app.user("ada")
    app.profile(ada, name="Ada Lovelace", location="London", language="English")
    app.user("bob")
    expected = (ada, "ada", "ada@example.org", "Ada Lovelace", "London", "English")
    assert app.execute("select * from student.user_info('ada@example.org')") == [expected]
    assert users.user_info(session, "ada@example.org") == users.UserInfo(*expected)
    user, profile = users.get_user(session, "ada@example.org")
    assert (user.username, profile.name) == ("ada", "Ada Lovelace")
    assert users.user_id_by_username(session, "ada") == ada
    with pytest.raises(NotFoundError, match="user 'eve' not found"):
        users.user_id_by_username(session, "eve")


def test_who_is_not_found_or_not_the_only_one_is_told(app: App, session: Session) -> None:
    for name in ("ada", "eve", "eva"):
        app.user(name, email=f"{name[0]}@example.org")
    for function in ("user_info(%s)", "change_email(%s, 'new@example.org')", "change_name(%s, '')"):
        statement = f"select student.{function}"
        assert sqlstate(app, statement, "nobody@example.org") == "PY010"
        assert sqlstate(app, statement, "e@example.org") == "PY011"
        assert sqlstate(app, statement, None) == "PY010"
    for function in ("user_info(%s)", "change_name(%s, 'x')"):
        assert sqlstate(app, f"select student.{function}", "a@example.org") == "PY010"
    with pytest.raises(NotFoundError, match="profile of user '1' not found"):
        users.get_user(session, "a@example.org")


def test_an_email_is_changed(app: App, session: Session) -> None:
    ada = app.user("ada")
    app.profile(ada)
    user, _ = users.get_user(session, "ada@example.org")
    assert users.change_email(session, "ada@example.org", "Ada@Example.org") == ada
    assert users.change_email(session, "Ada@Example.org", "countess@example.org") == ada
    assert users.get_user(session, "countess@example.org")[0] is user
    assert user.email == "countess@example.org"
    session.commit()
    assert app.execute("select email from auth_user") == [("countess@example.org",)]


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "a b@example.org",
        "a@b@c",
        "a\n@x.org",
        None,
        "a" * 254 + "@x.org",
    ],
    ids=lambda email: repr(email)[:20],
)
def test_what_is_no_email_is_refused(app: App, email: str | None) -> None:
    app.user("ada")
    assert sqlstate(app, "select student.change_email('ada@example.org', %s)", email) == "PY011"


def test_an_email_in_use_is_refused_in_whatever_case(app: App, session: Session) -> None:
    app.user("ada")
    app.user("bob")
    for email in ("bob@example.org", "BOB@example.org"):
        with (
            pytest.raises(InUseError, match="another user has it") as caught,
            session.begin_nested(),
        ):
            users.change_email(session, "ada@example.org", email)
        assert caught.value.remedy == "Choose another address"
    assert users.change_email(session, "bob@example.org", "bob@example.org") == 2


def test_of_two_who_want_one_email_at_once_one_gets_it(app: App) -> None:
    app.user("ada")
    app.user("bob")
    one, two = app.connect(), app.connect()
    errors: list[str | None] = []

    def second() -> None:
        try:
            two.execute("select student.change_email('bob@example.org', 'new@example.org')")
        except psycopg.Error as error:
            errors.append(error.sqlstate)

    thread = threading.Thread(target=second)
    with one.transaction():
        one.execute("select student.change_email('ada@example.org', 'New@example.org')")
        thread.start()
        await_lock(app.site, two.info.backend_pid)
    thread.join()
    assert errors == ["PY012"]


def test_a_name_is_changed(app: App, session: Session) -> None:
    ada = app.user("ada")
    app.profile(ada, name="A")
    assert users.change_name(session, "ada@example.org", "Ада ✓") == ada
    assert users.user_info(session, "ada@example.org").name == "Ада ✓"
    users.change_name(session, "ada@example.org", "x" * 255)
    with pytest.raises(InvalidValueError, match="256 characters, 255 is the limit"):
        users.change_name(session, "ada@example.org", "x" * 256)
    assert sqlstate(app, "select student.change_name('ada@example.org', null)") == "PY011"


def test_users_are_counted(app: App, session: Session) -> None:
    app.user("ada")
    app.user("bob", is_active=False)
    assert app.execute("select student.user_count(), student.active_user_count()") == [(2, 1)]
    assert (users.user_count(session), users.active_user_count(session)) == (2, 1)


KEYS = ["secret", "85920908f28904ed733fe576320db18cabd7b6cd", "schlüssel ✓ \\x41 %s", "\x01'\""]


def as_in_2012(user_id: int, secret_key: bytes) -> str:
    h = hashlib.md5()
    h.update(secret_key)
    h.update(str(user_id).encode())
    return h.hexdigest()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("user_id", [1, 2**31, -5])
def test_ids_in_survey_links_are_those_of_2012(app: App, key: str, user_id: int) -> None:
    expected = as_in_2012(user_id, key.encode())
    assert app.one("select student.unique_id_for_user(%s::bigint, %s)", user_id, key) == expected
    assert users.unique_id_for_user(user_id, key) == expected
    assert users.unique_id_for_user(user_id, key.encode()) == expected


def test_known_ids_in_survey_links() -> None:
    assert users.unique_id_for_user(1, "secret") == "e52d98c459819a11775936d8dfbb7929"
    with pytest.raises(InvalidValueError):
        users.unique_id_for_user(1, b"")


def test_ids_in_survey_links_do_not_depend_on_the_databases_encoding(
    portal_server: Cluster,
) -> None:
    key = "schlüssel"
    definition = (folder("sql") / "portal/users/unique_id_for_user.sql").read_text("utf-8")
    with psycopg.connect(portal_server.conninfo(), autocommit=True) as server:
        server.execute("create database latin1 encoding 'LATIN1' locale 'C' template template0")
    conninfo = portal_server.conninfo("latin1", client_encoding="UTF8")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("create schema student")
        connection.execute(definition.encode())
        row = connection.execute("select student.unique_id_for_user(7, %s)", (key,)).fetchone()
        assert connection.execute("show server_encoding").fetchone() == ("LATIN1",)
    assert row == (as_in_2012(7, key.encode()),)
    portal_server.drop(conninfo)


@pytest.mark.newest("the path that others walk on every version")
def test_changes_reach_the_course(site: Site) -> None:
    ada = insert_user(site, "ada")
    site.execute("insert into auth_userprofile (user_id, name) values (%s, 'A')", ada)
    enroll(site, ada, "A")
    site.add("A")
    with portal_session(site.portal) as session:
        users.change_email(session, "ada@example.org", "countess@example.org")
        users.change_name(session, "countess@example.org", "Ada Lovelace")
    site.wait()
    assert site.course("A").execute(
        "select email, name from auth_user join auth_userprofile on user_id = auth_user.id"
    ).fetchall() == [("countess@example.org", "Ada Lovelace")]
    assert_live_rows(site, "A")
