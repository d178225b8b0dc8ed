"""``pysync account``, ``group`` and ``migrate validate``."""

from __future__ import annotations

import psycopg
import pytest

from pysync.migrate.validate import MAX_ROWS
from tests.acceptance.test_cli_process import assert_refused, cli, read_json, succeed
from tests.django_site.process import new_site
from tests.support import Site, insert_user

pytestmark = pytest.mark.newest("what the command line makes of its input, whatever the server")


def test_an_account_is_registered_and_activated(site: Site) -> None:
    ada = insert_user(site, "ada", is_active=False)
    key = succeed("account", "register", "ada", portal=site.portal).strip()
    assert len(key) == 32
    for _ in range(2):
        assert succeed("account", "activate", key, portal=site.portal) == f"user {ada} is active\n"
    assert site.one("select is_active from auth_user") is True
    for arguments, words in (
        (("activate", "f" * 32), ("activation key", "unknown")),
        (("register", "ada"), ("registered already",)),
        (("register", "eve"), ("user 'eve' unknown",)),
        (("approve-name", "ada"), ("none is pending",)),
        (("request-email", "ada", "nowhere"), ("'nowhere' refused",)),
    ):
        assert_refused(cli("account", *arguments, portal=site.portal), *words)


def test_changes_wait_for_approval(site: Site) -> None:
    ada = insert_user(site, "ada")
    site.execute("insert into auth_userprofile (user_id, name) values (%s, 'Ada')", ada)
    assert succeed("account", "pending", portal=site.portal) == "no changes are pending\n"
    succeed(
        "account", "request-name", "ada", "Ada [L.]", "--rationale", "married", portal=site.portal
    )
    key = succeed("account", "request-email", "ada", "new@x.org", portal=site.portal).strip()
    assert read_json("account", "pending", portal=site.portal) == {
        "version": 1,
        "name_changes": [{"username": "ada", "new_name": "Ada [L.]", "rationale": "married"}],
        "email_changes": [{"username": "ada", "new_email": "new@x.org"}],
    }
    shown = succeed("account", "pending", portal=site.portal)
    assert "Ada [L.]" in shown
    assert key not in shown
    succeed("account", "approve-name", "ada", portal=site.portal)
    succeed("account", "approve-email", key, portal=site.portal)
    assert site.execute(
        "select name, email from auth_user join auth_userprofile on user_id = auth_user.id"
    ) == [("Ada [L.]", "new@x.org")]
    succeed("account", "request-name", "ada", "Eve", portal=site.portal)
    succeed("account", "request-email", "ada", "eve@x.org", portal=site.portal)
    succeed("account", "reject-name", "ada", portal=site.portal)
    succeed("account", "reject-email", "ada", portal=site.portal)
    assert succeed("account", "pending", portal=site.portal) == "no changes are pending\n"


def test_groups_are_made_filled_and_shown(site: Site) -> None:
    ada = insert_user(site, "ada")
    assert succeed("group", "list", portal=site.portal) == "no groups\n"
    succeed("group", "create", "friends", "of the [house]", portal=site.portal)
    assert succeed("group", "show", "friends", portal=site.portal) == (
        "nobody is in group 'friends'\n"
    )
    for group in ("friends", "email_helpers", "email_helpers"):
        succeed("group", "add", group, "ada", portal=site.portal)
    succeed("group", "describe", "friends", "of old [times]", portal=site.portal)
    assert read_json("group", "list", portal=site.portal) == {
        "version": 1,
        "groups": [
            {
                "name": "email_helpers",
                "description": "Receive e-mails about how to help with MITx",
                "members": 1,
            },
            {"name": "friends", "description": "of old [times]", "members": 1},
        ],
    }
    assert "of old [times]" in succeed("group", "list", portal=site.portal)
    assert read_json("group", "show", "friends", portal=site.portal) == {
        "version": 1,
        "group": "friends",
        "members": [{"user_id": ada, "username": "ada", "email": "ada@example.org"}],
    }
    assert "ada@example.org" in succeed("group", "show", "friends", portal=site.portal)
    for _ in range(2):
        succeed("group", "remove", "friends", "ada", portal=site.portal)
    for arguments, words in (
        (("add", "enemies", "ada"), ("group 'enemies' unknown",)),
        (("add", "friends", "eve"), ("user 'eve' unknown",)),
        (("create", "friends"), ("group 'friends' exists already",)),
        (("create", "x" * 33), ("1 to 32 characters",)),
    ):
        assert_refused(cli("group", *arguments, portal=site.portal), *words)


def test_rules_of_adopted_tables_are_validated_or_the_rows_are_listed(site: Site) -> None:
    portal = site.new_database(site.portal_server, template=new_site(site.portal_server))
    with psycopg.connect(portal, autocommit=True) as connection:
        connection.execute(
            "with people as (insert into auth_user (username, password, is_superuser, first_name,"
            " last_name, email, is_staff, is_active, date_joined) select 'user' || n, '', false,"
            " '', '', '', false, true, now() from generate_series(1, %s) as n returning id)"
            " insert into auth_userprofile (id, user_id, name, meta, courseware, language,"
            " location, gender) select id, id, '', '', '', '', '', '?' from people",
            (MAX_ROWS + 1,),
        )
        succeed("migrate", portal=portal)
        arguments = ("migrate", "validate", "--format", "json")
        result = cli(*arguments, "--dry-run", portal=portal)
        assert result.returncode == 1
        assert '"validated": true' not in result.stdout
        result = cli("migrate", "validate", portal=portal)
        assert result.returncode == 1
        assert result.stderr.startswith("pysync: portal can't be validated: 101 rows break")
        (row,) = [line for line in result.stdout.splitlines() if "gender" in line]
        assert " 101 " in row
        assert row.rstrip().endswith("99, 100 …")
        assert "?" not in result.stdout
        connection.execute("update auth_userprofile set gender = null")
        document = read_json("migrate", "validate", portal=portal)
        assert {
            "table": "auth_userprofile",
            "constraint": "auth_userprofile_gender_check",
            "validated": True,
            "offending_total": 0,
            "offending_ids": [],
        } in document["checks"]
    assert succeed("migrate", "validate", portal=portal) == "all constraints are valid\n"


def test_what_can_not_be_text_and_a_portal_that_is_not_ready_are_one_line(site: Site) -> None:
    assert_refused(
        cli("group", "create", "caf\udce9", portal=site.portal), "refused", "isn't valid Unicode"
    )
    empty = site.new_database(site.portal_server)
    for command in (("group", "list"), ("account", "activate", "x"), ("migrate", "validate")):
        assert_refused(cli(*command, portal=empty), "pysync migrate")
