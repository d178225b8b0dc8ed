"""What is queued for the discussion service, by SQL: nothing that could disturb an application."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from tests.conftest import PORTALS, start_server
from tests.integration.fan_out import App, application, role
from tests.support import PORTAL_TEMPLATE, Cluster, Rows, Site

pytestmark = pytest.mark.oldest_and_newest(
    "SQL on ordinary tables: what the oldest and the newest agree on, those between do as well"
)

CLAIM = "select user_id, username, email, version, claimed_until from pysync.claim_deliveries"


@pytest.fixture
def site(app: App) -> Iterator[Site]:
    """A portal with the feature on, empty again afterwards."""
    app.site.execute("update pysync.setting set enabled = true")
    yield app.site
    app.site.execute(
        "update pysync.setting set enabled = false;"
        " delete from pysync.discussion_change; delete from pysync.discussion_outbox"
    )


def noted(site: Site) -> list[int]:
    """Return whose changes have been noted since the last call."""
    rows = site.execute(
        "with gone as (delete from pysync.discussion_change returning id, user_id)"
        " select user_id from gone order by id"
    )
    return [user_id for (user_id,) in rows]


def claim(site: Site, max_users: int = 10, lease_seconds: float = 30) -> Rows:
    return site.execute(f"{CLAIM}(%s, %s)", max_users, lease_seconds)


def settle(site: Site, claimed: tuple[object, ...], error: str | None = None) -> None:
    user_id, _, _, version, claimed_until = claimed
    site.execute(
        "select pysync.settle_delivery(%s, %s, %s, %s)", user_id, claimed_until, version, error
    )


def put_off(site: Site) -> None:
    """Make failed deliveries due in an hour: a second may go by while a test looks."""
    site.execute(
        "update pysync.discussion_outbox set next_attempt_at = now() + interval '1 h'"
        " where last_error is not null"
    )


def test_off_by_default_and_while_off_nothing_is_queued(app: App) -> None:
    assert app.site.execute("select * from pysync.setting") == [("discussion_service", False)]
    app.user("ada")
    app.execute("update auth_user set username = 'countess', email = ''")
    assert noted(app.site) == []
    assert app.site.one("select enabled from pysync.discussion_status()") is False


def test_new_users_and_changes_of_username_and_email_are_noted_and_nothing_else(
    app: App, site: Site
) -> None:
    app.execute(
        "insert into auth_user (username, password) values ('ada', ''), ('bob', ''), ('eve', '')"
    )
    assert noted(site) == [1, 2, 3]
    app.execute("update auth_user set email = 'ada@x.org' where id = 1")
    app.execute("update auth_user set username = 'robert' where id = 2")
    assert noted(site) == [1, 2]
    app.execute(
        "update auth_user set last_login = now(), first_name = 'A', is_staff = true, password = 'x',"
        " email = email, username = username"
    )
    app.execute("delete from auth_user where id = 3")
    assert noted(site) == []
    app.execute(
        "insert into auth_user (username, password) values ('robert', ''), ('new', '')"
        " on conflict (username) do update set email = 'robert@x.org'"
    )
    assert sorted(noted(site)) == [2, 5]
    with (
        app.connection.cursor() as cursor,
        cursor.copy("copy auth_user (username, password) from stdin") as copy,
    ):
        for number in range(1000):
            copy.write_row((f"user{number}", ""))
    assert len(noted(site)) == 1000


def test_what_a_trigger_of_the_applications_makes_of_a_change_counts(app: App, site: Site) -> None:
    site.execute(
        "create function public.lower_email() returns trigger language plpgsql as $$ begin"
        " new.email := lower(new.first_name) || '@x.org'; return new; end $$;"
        "create trigger lower_email before update on public.auth_user"
        " for each row execute function public.lower_email()"
    )
    app.user("ada", email="")
    noted(site)
    app.execute("update auth_user set first_name = 'Ada'")
    assert noted(site) == [1]
    app.execute("update auth_user set first_name = 'ADA'")
    assert noted(site) == []


def test_a_change_that_is_rolled_back_leaves_nothing(app: App, site: Site) -> None:
    with app.connection.transaction(force_rollback=True):
        app.user("ada")
    assert noted(site) == []


def test_a_commit_wakes_listeners_once(app: App, site: Site) -> None:
    listener = site.connect()
    listener.execute("listen pysync_discussion")
    app.execute("select 1")
    with app.connection.transaction():
        for name in ("ada", "bob"):
            app.user(name)
        app.execute("update auth_user set email = ''")
    # Of one connection's transactions, the next one's notification comes after.
    app.execute("select pg_notify('pysync_discussion', 'end')")
    payloads = []
    for notification in listener.notifies(timeout=20):
        payloads.append(notification.payload)
        if notification.payload == "end":
            break
    assert payloads == ["", "end"]
    listener.close()


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_saving_neither_waits_nor_fails_whatever_pushers_do(
    app: App, site: Site, isolation: str
) -> None:
    ada = app.user("ada")
    app.execute(f"set default_transaction_isolation = '{isolation}'")
    app.execute("set lock_timeout = '1ms'")
    pusher = site.connect()
    with app.connection.transaction():
        app.execute("select count(*) from auth_user")  # takes the snapshot
        with pusher.transaction():  # stays open: much worse than what pushers do
            claimed = pusher.execute(f"{CLAIM}(10, 30)").fetchall()
            app.execute("update auth_user set email = 'a@x.org' where id = %s", ada)
        settle(site, claimed[0])
        app.execute("update auth_user set email = 'b@x.org' where id = %s", ada)
        site.execute("update pysync.setting set enabled = enabled")
        app.execute("update auth_user set username = 'countess' where id = %s", ada)
    pusher.close()
    assert [row[:3] for row in claim(site)] == [(ada, "countess", "b@x.org")]


def test_a_user_is_claimed_by_one_at_a_time_until_settled(app: App, site: Site) -> None:
    ada, bob, eve = app.user("ada"), app.user("bob"), app.user("eve")
    first, second = claim(site, 2)
    assert [first[0], second[0]] == [ada, bob]
    assert [row[0] for row in claim(site)] == [eve]
    app.execute("update auth_user set username = 'countess' where id = %s", ada)
    assert claim(site) == []
    settle(site, second)
    settle(site, first)
    assert [row[1] for row in claim(site)] == ["countess"]


def test_of_two_that_claim_at_once_none_waits_and_each_gets_others(app: App, site: Site) -> None:
    for number in range(4):
        app.user(f"user{number}")
    assert claim(site, 0) == []  # only makes entries of the changes
    one, two = site.connect(), site.connect()
    two.execute("set lock_timeout = '1ms'")
    with one.transaction():
        mine = one.execute(f"{CLAIM}(2, 30)").fetchall()
        others = two.execute(f"{CLAIM}(10, 30)").fetchall()
    assert sorted(row[0] for row in mine + others) == [1, 2, 3, 4]
    assert len(mine) == len(others) == 2
    one.close()
    two.close()


def test_a_claim_that_has_run_out_is_somebody_elses(app: App, site: Site) -> None:
    app.user("ada")
    (late,) = claim(site, lease_seconds=0)
    (claimed,) = claim(site)
    settle(site, late)
    settle(site, late, "too late")
    assert site.execute("select attempts, last_error from pysync.discussion_outbox") == [(0, None)]
    assert claim(site) == []
    settle(site, claimed)
    assert site.execute("select * from pysync.discussion_outbox") == []


def test_what_has_changed_meanwhile_is_delivered_again(app: App, site: Site) -> None:
    app.user("ada")
    (claimed,) = claim(site)
    app.execute("update auth_user set email = 'new@x.org'")
    assert claim(site) == []  # makes the change part of the entry that is claimed
    settle(site, claimed)
    assert [row[2] for row in claim(site)] == ["new@x.org"]


def test_failures_are_put_off_for_longer_and_longer(app: App, site: Site) -> None:
    app.user("ada")
    for attempt in range(14):
        (claimed,) = claim(site)
        before = site.one("select clock_timestamp()")
        settle(site, claimed, "e" * 1000)
        after = site.one("select clock_timestamp()")
        due = site.one("select next_attempt_at from pysync.discussion_outbox")
        full = timedelta(seconds=min(600, 2**attempt))
        assert before + full / 2 <= due <= after + full
        site.execute("update pysync.discussion_outbox set next_attempt_at = now()")
    assert site.execute("select attempts, length(last_error) from pysync.discussion_queue()") == [
        (14, 300)
    ]


def test_a_change_makes_a_failing_user_due(app: App, site: Site) -> None:
    app.user("ada")
    settle(site, claim(site)[0], "no")
    put_off(site)
    assert claim(site) == []
    app.execute("update auth_user set email = 'better@x.org'")
    (claimed,) = claim(site)
    settle(site, claimed, "no")
    assert site.one("select attempts from pysync.discussion_outbox") == 2


def test_failing_users_are_never_in_the_way(app: App, site: Site) -> None:
    for number in range(20):
        app.user(f"bad{number}")
    for claimed in claim(site, 20):
        settle(site, claimed, "no")
    put_off(site)
    good = app.user("good")
    assert [row[0] for row in claim(site, 1)] == [good]


def test_a_user_who_is_gone_is_no_longer_queued(app: App, site: Site) -> None:
    ada, bob = app.user("ada"), app.user("bob")
    settle(site, claim(site, 1)[0], "no")
    app.execute("delete from auth_user")
    assert site.execute("select queued, failing from pysync.discussion_status()") == [(0, 0)]
    site.execute("update pysync.discussion_outbox set next_attempt_at = now()")
    gone = claim(site)
    assert sorted((row[0], row[1]) for row in gone) == [(ada, None), (bob, None)]
    for claimed in gone:
        settle(site, claimed)
    assert site.execute("select * from pysync.discussion_outbox") == []


def test_status_counts(app: App, site: Site) -> None:
    for name in ("ada", "bob", "eve"):
        app.user(name)
    bad, _ = claim(site, 2)
    settle(site, bad, "no")
    put_off(site)
    app.execute("update auth_user set email = 'x'")
    assert site.execute(
        "select enabled, queued, due, delivering, failing, oldest_queued_at <= now()"
        "  from pysync.discussion_status()"
    ) == [(True, 3, 1, 1, 1, True)]
    assert site.execute(
        "select username, attempts, last_error from pysync.discussion_queue() order by 1"
    ) == [("ada", 1, "no"), ("bob", 0, None), ("eve", 0, None)]
    site.execute("update pysync.setting set enabled = false")
    assert claim(site) == []
    assert site.one("select pysync.next_delivery_seconds()") is None


def test_retry_makes_failed_ones_due_and_leaves_claims_alone(app: App, site: Site) -> None:
    for name in ("ada", "bob", "eve"):
        app.user(name)
    first, second, _ = claim(site)
    settle(site, first, "no")
    settle(site, second, "no")
    put_off(site)
    assert site.one("select pysync.retry_deliveries('bob')") == 1
    assert site.one("select pysync.retry_deliveries('eve')") == 0
    assert [row[1] for row in claim(site)] == ["bob"]
    assert site.one("select pysync.retry_deliveries()") == 1
    assert [row[1] for row in claim(site)] == ["ada"]
    with pytest.raises(psycopg.Error) as caught:
        site.execute("select pysync.retry_deliveries('nobody')")
    assert caught.value.sqlstate == "PY010"


def test_everybody_can_be_queued(app: App, site: Site) -> None:
    users = [app.user(name) for name in ("ada", "bob")]
    noted(site)
    assert site.one("select pysync.queue_all_users()") == 2
    assert noted(site) == users
    site.execute("update pysync.setting set enabled = false")
    with pytest.raises(psycopg.Error) as caught:
        site.execute("select pysync.queue_all_users()")
    assert caught.value.sqlstate == "PY011"
    assert noted(site) == []


def test_an_application_reaches_nothing_of_it(app: App, site: Site) -> None:
    for statement in (
        "select * from pysync.setting",
        "select * from pysync.discussion_change",
        "select * from pysync.discussion_outbox",
        "select * from pysync.claim_deliveries(1, 1)",
        "select pysync.wake_pushers()",
        "select * from pysync.discussion_queue()",
        "select pysync.queue_all_users()",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(statement)


@pytest.mark.newest("a server of its own, for one setting")
def test_transactions_with_changes_can_be_prepared(preparing_server: Cluster) -> None:
    """NOTIFY would forbid it: where transactions may be prepared there is none."""
    portal = preparing_server.create()
    migrate(portal, PORTAL, "portal")
    with psycopg.connect(portal, autocommit=True) as connection:
        connection.execute("update pysync.setting set enabled = true")
        connection.execute("begin")
        connection.execute("insert into auth_user (username, password) values ('ada', '')")
        connection.execute("update auth_user set email = 'x'")
        connection.execute("prepare transaction 'x'")
        connection.execute("commit prepared 'x'")
        status = "select queued from pysync.discussion_status()"
        assert connection.execute(status).fetchall() == [(1,)]
    preparing_server.drop(portal)


@pytest.mark.newest("each statement is one of ours")
def test_a_flood_of_changes_is_in_nobodys_way(app: App, site: Site) -> None:
    ada, bob = app.user("ada"), app.user("bob")
    noted(site)
    with app.connect() as flood:
        flood.execute("begin")
        flood.execute(
            "do $$ begin for number in 1..2500 loop"
            f" update auth_user set email = number || '@example.org' where id = {ada};"
            " end loop; end $$"
        )
        app.execute("set lock_timeout = '1s'")
        app.execute("update auth_user set email = 'bob@example.com' where id = %s", bob)
        assert [user_id for user_id, *_ in claim(site)] == [bob]
        flood.execute("commit")
    app.execute("update auth_user set username = 'eve' where id = %s", bob)
    claimed = [[user_id for user_id, *_ in claim(site)] for _ in range(2)]
    assert claimed == [[ada], []]
    assert site.execute("select from pysync.discussion_change") == []
    assert sorted(site.execute("select user_id, version from pysync.discussion_outbox")) == [
        (ada, 1),
        (bob, 2),
    ]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_what_is_noted_while_no_pusher_runs_is_bounded(
    app: App, site: Site, isolation: str
) -> None:
    users = [app.user("ada"), app.user("bob")]
    app.execute(f"set default_transaction_isolation = '{isolation}'")
    for number in range(5):
        app.execute("update auth_user set email = id || %s::text", number)
        site.one("select pysync.queue_all_users()")
    assert noted(site) == users
    # A note that a change goes by stays until that is committed, whoever delivers meanwhile.
    app.execute("update auth_user set email = 'before'")
    with app.connection.transaction():
        app.execute("update auth_user set email = 'after' where id = %s", users[0])
        assert [row[0] for row in claim(site)] == [users[1]]
    assert [(row[0], row[2]) for row in claim(site)] == [(users[0], "after")]


def shout_for_ever(connection: psycopg.Connection[Any]) -> None:
    while True:
        connection.execute("select pg_notify('anything', repeat('x', 7900))")


@pytest.mark.newest("17 is the first whose queue can be made so short that a test fills it")
def test_users_are_saved_while_the_queue_of_notifications_is_full(
    folder: Path, major: int, course_server: Cluster
) -> None:
    settings = {"max_notify_queue_pages": "64"}
    server = start_server(major, folder, "short-queue", settings, holds=PORTALS)
    site = Site(server, course_server, server.create(template=PORTAL_TEMPLATE))
    site.execute("update pysync.setting set enabled = true")
    with application(site) as app, role(site) as name:
        with site.connect(user=name) as listening, site.connect(user=name) as shouting:
            listening.execute("listen anything")
            listening.execute("begin")
            listening.execute("select")
            with pytest.raises(psycopg.Error, match="too many notifications"):
                shout_for_ever(shouting)
            ada = app.user("ada")
            app.execute("update auth_user set email = 'ada@example.com' where id = %s", ada)
            assert noted(site) == [ada]
        app.user("bob")
    site.close()
    server.executor.stop()
