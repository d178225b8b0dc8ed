"""A frozen copy whose username somebody else takes gives way, and replication goes on."""

from __future__ import annotations

import pytest

from tests.integration.fan_out import App, differences, names
from tests.support import assert_live_rows

pytestmark = pytest.mark.oldest_and_newest(
    "a course's unique constraints as the apply worker meets them"
)

LONG = "x" * 150


def rename(app: App, user_id: int, username: str) -> None:
    app.execute("update auth_user set username = %s where id = %s", username, user_id)


def frozen(app: App, username: str, *, now: str) -> int:
    """Make a user frozen in course A under a name that it has given up since."""
    user = app.user(username)
    app.enroll(user, "A")
    app.unenroll(user, "A")
    rename(app, user, now)
    return user


def test_replication_goes_on_over_every_kind_of_takeover(own_app: App) -> None:
    app, site = own_app, own_app.site
    site.add("A")
    by_rename = frozen(app, "ada", now="countess")
    by_enrollment = frozen(app, "bob", now="robert")
    ada = app.user("byron")
    app.enroll(ada, "A")
    rename(app, ada, "ada")
    bob = app.user("bob")
    app.enroll(bob, "A")
    site.wait()
    replicated = "select id, username from auth_user"
    assert dict(site.course("A").execute(replicated).fetchall()) == {
        by_rename: f"ada~{by_rename}",
        by_enrollment: f"bob~{by_enrollment}",
        ada: "ada",
        bob: "bob",
    }
    with app.connection.transaction():
        rename(app, ada, "between")
        rename(app, bob, "ada")
        rename(app, ada, "bob")
    app.enroll(by_rename, "A")
    app.execute("delete from auth_user where id = %s", by_enrollment)
    app.enroll(app.user(f"deleted-{by_enrollment}"), "A")
    site.wait()
    assert_live_rows(site, "A")
    assert dict(site.course("A").execute(replicated).fetchall()) == names(site, "A")


def test_a_frozen_copy_gives_way_to_a_rename(app: App) -> None:
    site = app.site
    site.register_only("A")
    old = frozen(app, "ada", now="countess")
    new = app.user("byron")
    app.enroll(new, "A")
    rename(app, new, "ada")
    assert names(site, "A") == {old: f"ada~{old}", new: "ada"}
    assert differences(site) == []


def test_a_frozen_copy_gives_way_to_an_enrollment(app: App) -> None:
    site = app.site
    site.register_only("A")
    old = frozen(app, "ada", now="countess")
    new = app.user("ada")
    app.enroll(new, "A")
    assert names(site, "A") == {old: f"ada~{old}", new: "ada"}
    assert differences(site) == []


def test_a_frozen_copy_gives_way_to_a_backfill(app: App) -> None:
    site = app.site
    site.register_only("A")
    old = frozen(app, "ada", now="countess")
    new = app.user("ada")
    # As between registration and backfill: enrolled, not copied yet.
    site.execute(
        "set session_replication_role = replica;"
        f" insert into student_courseenrollment (user_id, course_id) values ({new}, 'A')"
    )
    site.execute("select pysync.backfill('A', 0, 10)")
    assert names(site, "A") == {old: f"ada~{old}", new: "ada"}


def test_frozen_copies_keep_names_that_nobody_takes_in_their_course(app: App) -> None:
    site = app.site
    site.register_only("A", "B")
    old = frozen(app, "ada", now="countess")
    new = app.user("ada")
    app.enroll(new, "B")
    rename(app, old, "lovelace")
    rename(app, new, "byron")
    assert names(site, "A") == {old: "ada"}
    assert names(site, "B") == {new: "byron"}


@pytest.mark.parametrize("username", [LONG, "ü" * 150, "😀" * 150])
def test_the_new_name_is_cut_to_fit_by_characters(app: App, username: str) -> None:
    site = app.site
    site.register_only("A")
    old = frozen(app, username, now="countess")
    app.enroll(app.user(username), "A")
    suffix = f"~{old}"
    assert names(site, "A")[old] == username[: 150 - len(suffix)] + suffix
    assert differences(site) == []


def test_a_chain_of_takeovers(app: App) -> None:
    site = app.site
    site.register_only("A")
    first = frozen(app, "ada", now="one")
    second = app.user("ada")
    app.enroll(second, "A")
    app.unenroll(second, "A")
    rename(app, second, "two")
    third = app.user("ada")
    app.enroll(third, "A")
    # Somebody takes even the name that the first copy was given.
    fourth = app.user(f"ada~{first}")
    app.enroll(fourth, "A")
    assert names(site, "A") == {
        first: f"ada~{first}~{first}",
        second: f"ada~{second}",
        third: "ada",
        fourth: f"ada~{first}",
    }
    assert differences(site) == []


def test_a_candidate_that_is_taken_is_passed_over(app: App) -> None:
    site = app.site
    site.register_only("A")
    old = frozen(app, "ada", now="countess")
    others = [app.user(f"ada~{old}"), app.user(f"ada~{old}~2")]
    for other in others:
        app.enroll(other, "A")
    app.enroll(app.user("ada"), "A")
    assert names(site, "A")[old] == f"ada~{old}~3"
    assert differences(site) == []


def test_two_live_users_swap_names_through_a_third(app: App) -> None:
    site = app.site
    site.register_only("A")
    ada, bob = app.user("ada"), app.user("bob")
    app.enroll(ada, "A")
    app.enroll(bob, "A")
    with app.connection.transaction():
        rename(app, ada, "between")
        rename(app, bob, "ada")
        rename(app, ada, "bob")
    assert names(site, "A") == {ada: "bob", bob: "ada"}
    assert differences(site) == []


def test_a_statement_that_shifts_names_along_a_row_of_users(app: App) -> None:
    site = app.site
    site.register_only("A")
    users = [app.user(f"user-{number}") for number in range(4)]
    for user in users:
        app.enroll(user, "A")
    # Each takes the next one's name, which is free by then: the rows are in that order.
    for user in reversed(users):
        app.execute("update auth_user set email = '' where id = %s", user)
    app.execute(
        "update auth_user set username = 'user-' || (split_part(username, '-', 2)::int + 1)"
    )
    assert names(site, "A") == {user: f"user-{number}" for number, user in enumerate(users, 1)}
    assert differences(site) == []


@pytest.mark.parametrize("at_once", [True, False])
def test_frozen_users_who_swapped_names_come_back(app: App, at_once: bool) -> None:
    site = app.site
    site.register_only("A")
    ada, bob = app.user("ada"), app.user("bob")
    for user in (ada, bob):
        app.enroll(user, "A")
        app.unenroll(user, "A")
    for user, username in ((ada, "between"), (bob, "ada"), (ada, "bob")):
        rename(app, user, username)
    assert names(site, "A") == {ada: "ada", bob: "bob"}
    if at_once:
        app.execute(
            "insert into student_courseenrollment (user_id, course_id)"
            " select id, 'A' from auth_user"
        )
    else:
        app.enroll(ada, "A")
        assert names(site, "A") == {ada: "bob", bob: f"bob~{bob}"}
        app.enroll(bob, "A")
    assert names(site, "A") == {ada: "bob", bob: "ada"}
    assert differences(site) == []


def test_never_the_live_copy_gives_way(app: App) -> None:
    site = app.site
    site.register_only("A", "B")
    old = frozen(app, "ada", now="countess")
    live = app.user("ada")
    app.enroll(live, "A", "B")
    app.unenroll(live, "B")
    rename(app, old, "lovelace")
    app.enroll(old, "A")
    assert names(site, "A") == {old: "lovelace", live: "ada"}
    rename(app, live, "byron")
    rename(app, old, "ada")
    app.enroll(old, "B")
    assert names(site, "A") == {old: "ada", live: "byron"}
    assert names(site, "B") == {old: "ada", live: f"ada~{live}"}
    assert differences(site) == []
