"""Delivery to a discussion service that fails, stalls, drips, and answers what it likes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from pysync.errors import DatabaseUnreachableError, InvalidValueError, PysyncError
from pysync.students import delivery
from pysync.students.delivery import Pushed
from pysync.students.service import Service
from tests.integration.discussion import API_KEY, Answer, DiscussionServer, Put, discussion_server
from tests.integration.fan_out import App, role
from tests.support import Site

pytestmark = pytest.mark.newest("HTTP on our side")


@pytest.fixture
def server() -> Iterator[DiscussionServer]:
    with discussion_server() as running:
        yield running


@pytest.fixture
def site(app: App) -> Iterator[Site]:
    """A portal with the feature on, empty again afterwards."""
    app.site.execute("update pysync.setting set enabled = true")
    yield app.site
    app.site.execute(
        "update pysync.setting set enabled = false;"
        " delete from pysync.discussion_change; delete from pysync.discussion_outbox"
    )


def push(site: Site, server: DiscussionServer, *, timeout: float = 5) -> tuple[Pushed, list[str]]:
    """Deliver what is due; returns what came of it and what was reported."""
    reports: list[str] = []
    service = Service(server.url, API_KEY, timeout)
    return asyncio.run(delivery.push(site.portal, service, reports.append)), reports


def errors(site: Site) -> dict[str, str | None]:
    return dict(site.execute("select username, last_error from pysync.discussion_queue()"))


def test_a_user_arrives_as_a_form_at_the_users_address(
    app: App, site: Site, server: DiscussionServer
) -> None:
    ada = app.user("ada lövelace", email="ada+x@example.org")
    pushed, reports = push(site, server)
    assert (pushed, reports) == (Pushed(delivered=1, failing=0, stopped=False), [])
    assert server.begun == [
        Put(
            f"/api/v1/users/{ada}",
            {
                "external_id": str(ada),
                "username": "ada lövelace",
                "email": "ada+x@example.org",
                "api_key": API_KEY,
            },
            "application/x-www-form-urlencoded",
        )
    ]
    assert push(site, server)[0].delivered == 0
    assert len(server.begun) == 1


def test_only_the_newest_state_is_sent(app: App, site: Site, server: DiscussionServer) -> None:
    ada = app.user("ada")
    for number in range(5):
        app.execute("update auth_user set email = %s where id = %s", f"{number}@x.org", ada)
    assert push(site, server)[0].delivered == 1
    assert [put.form["email"] for put in server.begun] == ["4@x.org"]


def test_a_change_during_a_delivery_is_delivered_after_it(
    app: App, site: Site, server: DiscussionServer
) -> None:
    ada = app.user("ada")

    def change(put: Put) -> Answer:
        if put.form["username"] == "ada":
            with app.connect() as other:  # while the pusher waits for our answer
                other.execute("set lock_timeout = '1ms'")
                other.execute("update auth_user set username = 'countess'")
        return 200

    server.behave = change
    assert push(site, server)[0].delivered == 1
    assert push(site, server)[0].delivered == 1
    assert [(put.user_id, put.form["username"]) for put in server.begun] == [
        (ada, "ada"),
        (ada, "countess"),
    ]
    assert errors(site) == {}


def test_a_change_that_was_collected_during_a_delivery_is_delivered_after_it(
    app: App, site: Site, server: DiscussionServer
) -> None:
    """Another pusher may have made the change part of the very entry that is being delivered."""
    app.user("ada")

    def change(put: Put) -> Answer:
        if put.form["username"] == "ada":
            app.connect().execute("update auth_user set username = 'countess'")
            assert site.execute("select * from pysync.claim_deliveries(9, 30)") == []
        return 200

    server.behave = change
    assert push(site, server)[0].delivered == 1
    assert push(site, server)[0].delivered == 1
    assert [put.form["username"] for put in server.begun] == ["ada", "countess"]
    assert site.one("select count(*) from pysync.discussion_outbox") == 0


FAILURES: dict[str, tuple[Answer, str]] = {
    "refused": (
        (422, f"no {API_KEY} for refused@example.org \x1b[2J\nsorry"),
        "HTTP 422 Unprocessable",
    ),
    "broken": (500, "HTTP 500 Internal Server Error"),
    "unheard": ((799, "?"), "HTTP 799: “?”"),
    "moved": (302, "HTTP 302 Found"),
    "dropped": ("drop", "RemoteProtocolError: "),
    "dripping": ("drip", "no answer within 1 s"),
    "stalled": ("stall", "no answer within 1 s"),
}


def test_failures_are_told_and_never_in_the_way_of_others(
    app: App, site: Site, server: DiscussionServer
) -> None:
    for name in FAILURES:
        app.user(name)
    for number in range(20):
        app.user(f"good{number}")

    def answer(put: Put) -> Answer:
        found = FAILURES.get(put.form["username"], (200, ""))[0]
        if found == "stall":
            server.closing.wait(20)
        return found

    server.behave = answer
    pushed, reports = push(site, server, timeout=1)
    assert len(reports) == len(FAILURES), reports
    assert pushed == Pushed(delivered=20, failing=len(FAILURES), stopped=False)
    assert len(server.begun) == 20 + len(FAILURES)
    assert {put.path.rpartition("/")[0] for put in server.begun} == {"/api/v1/users"}
    last = errors(site)
    assert last.keys() == FAILURES.keys()
    for name, (_, expected) in FAILURES.items():
        assert (last[name] or "").startswith(expected), last[name]
    told = f"{reports} {site.execute('select * from pysync.discussion_outbox')}"
    assert API_KEY not in told
    assert "refused@example.org" not in told
    assert (last["refused"] or "").endswith(": “no … for … \\x1b[2J sorry”")


def test_a_failed_delivery_is_due_again_later_and_succeeds(
    app: App, site: Site, server: DiscussionServer
) -> None:
    app.user("ada")
    server.behave = lambda _: 503
    assert push(site, server)[0].failing == 1
    server.behave = lambda _: 200
    site.execute("update pysync.discussion_outbox set next_attempt_at = now() + interval '1 h'")
    # Not due: the service is left alone, and the push says that something is left.
    assert push(site, server)[0] == Pushed(delivered=0, failing=1, stopped=False)
    assert site.one("select pysync.retry_deliveries('ada')") == 1
    assert push(site, server)[0] == Pushed(delivered=1, failing=0, stopped=False)
    assert len(server.begun) == 2


def test_a_service_that_nobody_runs_is_a_failure_like_any_other(app: App, site: Site) -> None:
    app.user("ada")
    with discussion_server() as gone:
        pass
    pushed, _ = push(site, gone)
    assert pushed == Pushed(delivered=0, failing=1, stopped=False)
    assert (errors(site)["ada"] or "").startswith("ConnectError: ")


def test_two_pushers_share_the_work_and_never_deliver_one_user_at_the_same_time(
    app: App, site: Site, server: DiscussionServer
) -> None:
    users = [app.user(f"user{number}") for number in range(3 * delivery.CONCURRENCY)]
    # More than one pusher has under way: nobody is answered before both have begun.
    everybody = threading.Barrier(2 * delivery.CONCURRENCY)
    numbers = iter(range(1000))
    lock = threading.Lock()

    def first_ones_wait(_: Put) -> Answer:
        with lock:
            number = next(numbers)
        if number < everybody.parties:
            everybody.wait(20)
        return 200

    server.behave = first_ones_wait

    async def both() -> list[Pushed]:
        service = Service(server.url, API_KEY, 20)
        pushes = (delivery.push(site.portal, service, pytest.fail) for _ in range(2))
        return await asyncio.gather(*pushes)

    results = asyncio.run(both())
    assert all(result.delivered >= delivery.CONCURRENCY for result in results)
    assert sum(result.delivered for result in results) == len(users)
    assert sorted(put.user_id for put in server.begun) == users
    assert server.overlaps == []


def test_saving_users_never_waits_for_a_service_that_stalls(
    app: App, site: Site, server: DiscussionServer
) -> None:
    ada = app.user("ada")
    done: list[int] = []

    def stall(_: Put) -> Answer:
        other = app.connect()
        other.execute("set lock_timeout = '1ms'")
        for isolation in ("read committed", "repeatable read", "serializable"):
            other.execute(f"set default_transaction_isolation = '{isolation}'")
            other.execute("update auth_user set email = %s where id = %s", (isolation[:4], ada))
        other.execute("delete from auth_user where id = %s", (ada,))
        done.append(ada)
        return 200

    server.behave = stall
    assert push(site, server)[0].delivered == 1
    assert done == [ada]
    assert push(site, server)[0].delivered == 0
    assert site.execute("select * from pysync.discussion_outbox") == []


def test_while_it_is_off_nothing_is_delivered(
    app: App, site: Site, server: DiscussionServer
) -> None:
    app.user("ada")
    site.execute("update pysync.setting set enabled = false")
    with pytest.raises(PysyncError, match="off"):
        push(site, server)
    site.execute("update pysync.setting set enabled = true")
    assert push(site, server)[0].delivered == 1


def test_a_pusher_that_was_frozen_sends_nothing_that_may_be_old(
    app: App, site: Site, server: DiscussionServer
) -> None:
    """The claim is held for less than a delivery may take, as if most of it had gone by."""
    app.user("ada")
    service = Service(server.url, API_KEY, timeout_seconds=5)
    pushed = asyncio.run(
        delivery.push(site.portal, service, pytest.fail, lease_seconds=service.timeout_seconds)
    )
    assert pushed.delivered == 0
    assert server.begun == []
    assert errors(site) == {"ada": None}


def test_a_pusher_needs_no_more_than_its_functions(
    app: App, site: Site, server: DiscussionServer
) -> None:
    app.user("ada")
    functions = (
        "feature_is_on(text)",
        "claim_deliveries(integer, double precision, timestamptz)",
        "claim_users(integer, double precision, timestamptz)",
        "settle_delivery(bigint, timestamptz, bigint, text)",
        "next_delivery_seconds()",
        "discussion_status()",
        "discussion_queue()",
        "queued_users()",
    )
    grants = (f"execute on function pysync.{function}" for function in functions)
    users = "select (id, username, email) on auth_user"
    with role(site, "usage on schema pysync", users, *grants) as name:
        conninfo = f"{site.portal} user={name}"
        pushed = asyncio.run(delivery.push(conninfo, Service(server.url, API_KEY), pytest.fail))
    assert pushed.delivered == 1


def test_a_portal_out_of_reach_is_told(server: DiscussionServer) -> None:
    with pytest.raises(DatabaseUnreachableError):
        asyncio.run(
            delivery.push(
                "host=127.0.0.1 port=1 dbname=none", Service(server.url, API_KEY), pytest.fail
            )
        )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "comments.example.org",
        "ftp://x",
        "http://",
        "http://x?key=1",
        "http://x#a",
        "http://x:y",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        Service(url, API_KEY)
    assert str(caught.value).startswith("discussion service's URL can't be used; ")


@pytest.mark.parametrize("key", ["", "\udcff"])
def test_a_key_that_cannot_be_sent_is_refused(key: str) -> None:
    with pytest.raises(InvalidValueError):
        Service("http://x", key)


def test_neither_url_nor_key_is_shown() -> None:
    assert repr(Service("http://u:pw@x", API_KEY)) == "Service(timeout_seconds=5.0)"
