"""``pysync discussion``: commands, and pushers as processes that are woken, stopped and killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_cli_process import (
    Fork,
    assert_refused,
    cli,
    environment,
    read_json,
    succeed,
)
from tests.integration.discussion import API_KEY, Answer, DiscussionServer, Put, discussion_server
from tests.support import Site, eventually, insert_user, run_cli

pytestmark = pytest.mark.newest("what the command line makes of its input, whatever the server")


@pytest.fixture
def server() -> Iterator[DiscussionServer]:
    with discussion_server() as running:
        yield running


@pytest.fixture
def on(site: Site) -> Site:
    """A portal with the feature on."""
    site.execute("update pysync.setting set enabled = true")
    return site


def variables(server: DiscussionServer) -> dict[str, Any]:
    return {"PYSYNC_DISCUSSION_URL": server.url, "PYSYNC_DISCUSSION_API_KEY": API_KEY}


def push(site: Site, server: DiscussionServer) -> subprocess.CompletedProcess[str]:
    result = cli("discussion", "push", portal=site.portal, **variables(server))
    assert API_KEY not in result.stdout + result.stderr
    return result


@contextmanager
def follower(site: Site, server: DiscussionServer, *options: str) -> Iterator[Fork]:
    """Start a pusher that follows, and wait until it listens."""
    with Fork(
        ("discussion", "push", "--follow", "-v", *options),
        environment(site.portal, **variables(server)),
    ) as process:
        try:
            assert process.stderr.readline().endswith("Z INFO waiting for changes of users\n")
            yield process
        finally:
            process.kill()


def end(process: Fork) -> tuple[int, str, str]:
    """Return the exit status and what was printed, once the process has ended."""
    out, err = process.communicate(timeout=20)
    assert API_KEY not in out + err
    assert process.returncode is not None
    return process.returncode, out, err


def outbox(site: Site) -> int:
    return int(site.one("select count(*) from pysync.discussion_queue()"))


@pytest.mark.parametrize(
    "command", ["", "enable", "disable", "push", "status", "retry", "queue-all"]
)
def test_each_command_explains_itself(command: str) -> None:
    shown = succeed("discussion", *command.split(), "--help")
    assert shown.lstrip().startswith(f"Usage: pysync discussion {command}".rstrip())
    assert "--lease" not in shown


def test_from_off_to_delivered(site: Site, server: DiscussionServer) -> None:
    ada = insert_user(site, "ada")
    assert_refused(push(site, server), "discussion service is off", "enable")
    assert_refused(cli("discussion", "queue-all", portal=site.portal), "off", "enable")
    assert succeed("discussion", "enable", portal=site.portal).startswith(
        "discussion service is on"
    )
    assert succeed("discussion", "queue-all", portal=site.portal) == "1 user queued\n"

    server.behave = lambda _: (422, "[bold]no[/bold]")
    result = push(site, server)
    assert (result.returncode, result.stdout) == (1, "0 users delivered\n")
    first, second, command = result.stderr.splitlines()
    told, _, again = first.rpartition("; ")
    assert told == f"user {ada} not delivered: HTTP 422 Unprocessable Entity: “[bold]no[/bold]”"
    assert re.fullmatch(r"due again at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S+", again)
    assert second == "pysync: discussion service hasn't got the newest state of 1 user; see:"
    assert command == "    pysync discussion status"
    site.execute("update pysync.discussion_outbox set next_attempt_at = now() + interval '1 h'")
    status = read_json("discussion", "status", portal=site.portal)
    (failing,) = status.pop("failing_users")
    assert status.pop("oldest_queued_at")
    assert status == {
        "version": 1,
        "enabled": True,
        "queued": 1,
        "due": 0,
        "delivering": 0,
        "failing": 1,
    }
    assert (failing["user_id"], failing["username"], failing["attempts"]) == (ada, "ada", 1)
    assert failing["last_error"] == "HTTP 422 Unprocessable Entity: “[bold]no[/bold]”"
    shown = succeed("discussion", "status", portal=site.portal)
    assert "on: 1 user queued, 0 due, 0 being delivered, 1 failing" in shown
    assert "HTTP 422 Unprocessable Entity: “[bold]no[/bold]”" in shown
    assert read_json("discussion", "status", "--limit", "0", portal=site.portal)["failing"] == 1

    server.behave = lambda _: 200
    assert succeed("discussion", "retry", "ada", portal=site.portal) == "1 user due now\n"
    result = push(site, server)
    assert (result.returncode, result.stdout, result.stderr) == (0, "1 user delivered\n", "")
    assert succeed("discussion", "status", portal=site.portal) == (
        "discussion service is on: 0 users queued, 0 due, 0 being delivered, 0 failing\n"
    )
    assert succeed("discussion", "disable", portal=site.portal) == "discussion service is off\n"
    insert_user(site, "bob")
    assert outbox(site) == 0


def test_mistakes_are_one_line(site: Site, server: DiscussionServer) -> None:
    for missing in variables(server):
        given = {k: v for k, v in variables(server).items() if k != missing}
        assert_refused(cli("discussion", "push", portal=site.portal, **given), missing)
    bad = variables(server) | {"PYSYNC_DISCUSSION_URL": "user:pw@nowhere"}
    result = cli("discussion", "push", portal=site.portal, **bad)
    assert_refused(result, "URL can't be used")
    assert "pw" not in result.stderr
    assert_refused(cli("discussion", "retry", "nobody", portal=site.portal), "'nobody' not found")
    result = cli("discussion", "push", "--lease", "1", portal=site.portal, **variables(server))
    assert result.returncode == 2


def test_a_portal_that_is_not_migrated_is_told(site: Site, server: DiscussionServer) -> None:
    portal = site.new_database(site.portal_server)
    for arguments in (("push",), ("push", "--follow"), ("status",)):
        result = cli("discussion", *arguments, portal=portal, **variables(server))
        assert_refused(result, "isn't at the revision", "pysync migrate")


def test_a_follower_is_woken_by_a_commit(on: Site, server: DiscussionServer) -> None:
    """Without being woken it would look after five seconds."""
    with follower(on, server) as process:
        server.behave = lambda put: 503 if len(server.begun) == 2 else 200
        insert_user(on, "ada")
        server.wait_for(1, timeout_seconds=3)
        on.execute("update auth_user set email = 'new@example.org'")
        server.wait_for(2, timeout_seconds=3)
        server.wait_for(3, timeout_seconds=3)  # the failed one, after a second at most
        assert [put.form["email"] for put in server.begun] == [
            "ada@example.org",
            "new@example.org",
            "new@example.org",
        ]
        eventually(lambda: outbox(on) == 0)
        on.execute("update pysync.setting set enabled = false")
        on.execute("update auth_user set email = 'off@example.org'")
        on.execute("update pysync.setting set enabled = true")
        succeed("discussion", "queue-all", portal=on.portal)
        server.wait_for(4, timeout_seconds=3)
        eventually(lambda: outbox(on) == 0)
        process.terminate()
        status, out, err = end(process)
    assert (status, out) == (0, "3 users delivered\n")
    told = "user 1 not delivered: HTTP 503 Service Unavailable; due again at "
    assert err.splitlines()[0].partition("Z ")[2].startswith(f"WARNING {told}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_ends_a_follower_after_the_delivery_under_way(
    on: Site, server: DiscussionServer, number: signal.Signals
) -> None:
    stopped = threading.Event()
    server.behave = lambda _: 200 if stopped.wait(20) else 500
    with follower(on, server) as process:
        ada = insert_user(on, "ada")
        server.wait_for(1)
        process.send_signal(number)
        # What comes after the signal is left for another pusher.
        eventually(lambda: has_been_told(process.pid))
        insert_user(on, "bob")
        stopped.set()
        assert end(process) == (0, "1 user delivered\n", "")
    assert [put.user_id for put in server.begun] == [ada]
    assert outbox(on) == 1


def has_been_told(process_id: int) -> bool:
    """Say whether a pusher has had a signal: it catches no second one."""
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    (caught,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return not int(caught, 16) >> (signal.SIGTERM - 1) & 1


def test_what_a_killed_pusher_had_claimed_is_delivered_once_the_claim_has_run_out(
    on: Site, server: DiscussionServer
) -> None:
    never, arrived = threading.Event(), [datetime.min.replace(tzinfo=UTC)]

    def behave(_: Put) -> Answer:
        arrived[0] = datetime.now(UTC)
        if len(server.begun) == 1:
            never.wait(20)
        return 200

    server.behave = behave
    short = ("--timeout", "1", "--lease", "1.5")
    with follower(on, server, *short) as first:
        insert_user(on, "ada")
        server.wait_for(1)
        first.kill()
        first.wait()
        claimed_until = on.one("select claimed_until from pysync.discussion_queue()")
    with follower(on, server, *short) as second:
        server.wait_for(2)
        assert arrived[0] > claimed_until
        eventually(lambda: outbox(on) == 0)
        second.terminate()
        assert end(second)[0] == 0
    never.set()


def test_a_follower_survives_the_loss_of_the_portal(on: Site, server: DiscussionServer) -> None:
    with follower(on, server) as process:
        on.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = 'pysync'"
        )
        insert_user(on, "ada")
        server.wait_for(1)
        eventually(lambda: outbox(on) == 0)
        process.terminate()
        status, out, err = end(process)
    assert (status, out) == (0, "1 user delivered\n")
    assert "portal lost, trying again: " in err
    assert "Traceback" not in err


def test_a_fresh_process_says_the_same_and_its_title_shows_no_key(
    on: Site, server: DiscussionServer
) -> None:
    seen: list[bytes] = []

    def look(_: Put) -> Answer:
        for title in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen.append(title.read_bytes())
        return 200

    server.behave = look
    insert_user(on, "ada")
    result = run_cli("discussion", "push", portal=on.portal, **variables(server))
    assert (result.returncode, result.stdout, result.stderr) == (0, "1 user delivered\n", "")
    assert any(b"discussion\0push" in title for title in seen)
    assert not any(API_KEY.encode() in title for title in seen)
    assert (
        json.loads(run_cli("discussion", "status", "--format", "json", portal=on.portal).stdout)[
            "queued"
        ]
        == 0
    )
