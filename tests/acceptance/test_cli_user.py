"""``pysync user``: the shell helpers of 2012 as commands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_cli_process import assert_refused, cli, read_json, succeed
from tests.support import Cluster, Site, insert_user

pytestmark = pytest.mark.newest("what the command line makes of its input, whatever the server")

KEY = "s3cret ü"


@pytest.fixture(scope="module")
def people(portal_server: Cluster, course_server: Cluster, portal_template: str) -> Iterator[Site]:
    """A portal with users; tests change what no other test looks at."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    ada = insert_user(site, "ada")
    site.execute(
        "insert into auth_userprofile (user_id, name, location, language)"
        " values (%s, '[bold]Ada[/bold]', 'London', 'English')",
        ada,
    )
    insert_user(site, "bob", is_active=False)
    insert_user(site, "eve", email="e@example.org")
    insert_user(site, "eva", email="e@example.org")
    yield site
    site.close()


@pytest.mark.parametrize(
    "command", ["", "info", "change-email", "change-name", "count", "unique-id"]
)
def test_each_command_explains_itself(command: str) -> None:
    shown = succeed("user", *command.split(), "--help")
    assert shown.lstrip().startswith(f"Usage: pysync user {command}".rstrip())


def test_info(people: Site) -> None:
    lines = succeed("user", "info", "ada@example.org", portal=people.portal).splitlines()
    shown = dict(line.strip().split("  ", 1) for line in lines if line.strip())
    assert {label: value.strip() for label, value in shown.items()} == {
        "User id": "1",
        "Username": "ada",
        "E-mail": "ada@example.org",
        "Name": "[bold]Ada[/bold]",
        "Location": "London",
        "Language": "English",
    }
    assert read_json("user", "info", "ada@example.org", portal=people.portal) == {
        "version": 1,
        "id": 1,
        "username": "ada",
        "email": "ada@example.org",
        "name": "[bold]Ada[/bold]",
        "location": "London",
        "language": "English",
    }


def test_count(people: Site) -> None:
    assert succeed("user", "count", portal=people.portal) == "4\n"
    assert succeed("user", "count", "--active", portal=people.portal) == "3\n"
    assert read_json("user", "count", "--active", portal=people.portal) == {
        "version": 1,
        "active_users": 3,
    }


def test_changes(site: Site) -> None:
    site.execute("insert into auth_userprofile (user_id) values (%s)", insert_user(site, "ada"))
    assert (
        succeed("user", "change-name", "ada@example.org", "Ada L.", portal=site.portal)
        == "user 1: name is 'Ada L.' now\n"
    )
    assert (
        succeed("user", "change-email", "ada@example.org", "a@example.org", portal=site.portal)
        == "user 1: e-mail is 'a@example.org' now\n"
    )
    assert site.execute(
        "select email, name from auth_user join auth_userprofile on user_id = auth_user.id"
    ) == [("a@example.org", "Ada L.")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("info", "nobody@example.org"), ("'nobody@example.org' not found",)),
        (("info", "e@example.org"), ("ambiguous",)),
        (("info", "bob@example.org"), ("profile of user '2' not found",)),
        (("info", "\udcff@example.org"), ("isn't valid Unicode",)),
        (("change-email", "ada@example.org", "bob@example.org"), ("in use",)),
        (("change-email", "ada@example.org", "nonsense"), ("isn't an e-mail address",)),
        (("change-name", "ada@example.org", "x" * 256), ("256 characters",)),
    ],
    ids=lambda value: " ".join(value)[:30].encode(errors="replace").decode(),
)
def test_mistakes_are_one_line(
    people: Site, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(cli("user", *arguments, portal=people.portal), *words)


def test_unique_id(people: Site) -> None:
    expected = hashlib.md5(KEY.encode() + b"1").hexdigest()
    for arguments in (("ada",), ("--email", "ada@example.org")):
        shown = succeed(
            "user", "unique-id", *arguments, portal=people.portal, PYSYNC_SECRET_KEY=KEY
        )
        assert shown == f"{expected}\n"
    shown = succeed(
        "user", "unique-id", "ada", "--format", "json", portal=people.portal, PYSYNC_SECRET_KEY=KEY
    )
    assert json.loads(shown) == {"version": 1, "user_id": 1, "unique_id": expected}


def test_unique_id_needs_a_key_and_a_user_and_shows_no_key(people: Site) -> None:
    assert_refused(cli("user", "unique-id", "ada", portal=people.portal), "PYSYNC_SECRET_KEY")
    for arguments in ((), ("ada", "--email", "ada@example.org")):
        result = cli("user", "unique-id", *arguments, portal=people.portal, PYSYNC_SECRET_KEY=KEY)
        assert result.returncode == 2
        assert KEY not in result.stdout + result.stderr
    result = cli("user", "unique-id", "nobody", portal=people.portal, PYSYNC_SECRET_KEY=KEY)
    assert_refused(result, "user 'nobody' not found")
    assert KEY not in result.stderr


def test_the_secret_key_is_in_no_statement(people: Site) -> None:
    """What the server is told, its log would show."""
    people.execute(
        "alter database " + str(people.connect().info.dbname) + " set log_statement = 'all'"
    )
    log = people.portal_server.executor.logfile
    succeed("user", "unique-id", "ada", portal=people.portal, PYSYNC_SECRET_KEY=KEY)
    text = Path(log).read_text("utf-8")
    assert "auth_user.username" in text
    assert KEY not in text
