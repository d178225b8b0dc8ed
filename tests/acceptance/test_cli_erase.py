"""``pysync erase``: deleted on the portal, proven course by course."""

from __future__ import annotations

import pytest
from psycopg.conninfo import make_conninfo

from tests.acceptance.test_cli_process import assert_refused, cli, footprint, succeed
from tests.acceptance.test_cli_resync import tampering
from tests.acceptance.test_cli_status import alter_subscription
from tests.support import Site, enroll, insert_user, unenroll

pytestmark = pytest.mark.newest("the order of our own steps, whichever server does them")


@pytest.fixture
def ada(site: Site) -> int:
    """Somebody live in A, frozen in B, and in a course that isn't registered."""
    user = insert_user(site, "ada", first_name="Ada", last_name="Lovelace")
    site.execute("insert into auth_userprofile (user_id, name) values (%s, 'Ada')", user)
    for course_id in ("A", "B"):
        site.add(course_id)
        enroll(site, user, course_id)
    enroll(site, user, "default")
    enroll(site, insert_user(site, "bob"), "A")
    site.wait()
    unenroll(site, user, "B")
    return user


def pending(site: Site) -> list[tuple[object, ...]]:
    return site.execute("select user_id, course_id from pysync.erasure order by 1, 2")


@pytest.mark.oldest_and_newest("what erases is carried by replication")
@pytest.mark.also_granted("the whole command")
def test_an_erasure_is_shown_done_and_proven(site: Site, ada: int) -> None:
    before = footprint(site.portal)
    shown = cli("erase", "ada", portal=site.portal)
    assert shown.returncode == 1
    assert shown.stdout.splitlines() == [
        f"user 'ada' (id {ada}) would be deleted on the portal, with",
        "  1 profiles and 2 enrollments",
        "  3 rows of public.django_comment_client_role_users, by its foreign key's rule",
        "  its copies in 2 courses: A, B",
    ]
    assert "confirm with --yes" in shown.stderr
    assert footprint(site.portal) == before

    assert succeed("erase", "ada", "--yes", portal=site.portal).splitlines() == [
        f"user 'ada' (id {ada}) deleted on the portal",
        "  A: confirmed",
        "  B: confirmed",
        "user 'ada' is erased everywhere",
    ]
    for course_id in "AB":
        assert site.course(course_id).execute(
            "select username, email, first_name from auth_user where id = %s", (ada,)
        ).fetchall() == [(f"deleted-{ada}", "", "")]
    assert site.execute("select username from auth_user") == [("bob",)]
    assert pending(site) == []
    assert_refused(cli("erase", "ada", "--yes", portal=site.portal), "user 'ada' doesn't exist")


def test_courses_that_are_down_are_asked_again(site: Site, ada: int) -> None:
    alter_subscription(site, "B", "disable")
    site.execute(
        "update pysync.course set conninfo = %s where course_id = 'A'",
        make_conninfo(site.databases["A"], dbname="nobody_made_it"),
    )
    command = ("erase", "ada", "--yes", "--timeout", "0.5")
    result = cli(*command, portal=site.portal)
    assert result.returncode == 1
    assert "A: not confirmed: " in result.stdout
    assert "nobody_made_it" in result.stdout
    assert "B: not confirmed: course 'B' is behind" in result.stdout
    assert "2 of 2 courses have not confirmed" in result.stdout
    assert pending(site) == [(ada, "A"), (ada, "B")]
    # No name is kept meanwhile, and who has it now isn't touched.
    assert "ada" not in str(site.execute("select * from pysync.erasure"))
    other = insert_user(site, "ada")

    alter_subscription(site, "B", "enable")
    result = cli("erase", "ada", "--yes", portal=site.portal)
    assert result.returncode == 1
    assert "somebody else is called 'ada' now" in result.stdout
    assert "B: confirmed" in result.stdout
    assert pending(site) == [(ada, "A")]

    site.execute(
        "update pysync.course set conninfo = %s where course_id = 'A'", site.databases["A"]
    )
    assert "A: confirmed" in succeed("erase", "ada", portal=site.portal)
    assert pending(site) == []
    assert site.execute("select id from auth_user where username = 'ada'") == [(other,)]


def test_what_is_still_there_is_no_proof(site: Site, ada: int) -> None:
    """The deletion has arrived, and somebody has put the data back behind replication's back."""
    alter_subscription(site, "B", "disable")
    cli("erase", "ada", "--yes", "--timeout", "0.5", portal=site.portal)
    alter_subscription(site, "B", "enable")
    site.wait()
    with tampering(site, "B") as course:
        course.execute(
            "update course.auth_user set email = 'ada@example.org' where id = %s", (ada,)
        )
    result = cli("erase", "ada", portal=site.portal)
    assert result.returncode == 1
    told = "B: not confirmed: personal data is still there; run:\n    pysync resync B\n"
    assert told in result.stdout
    succeed("resync", "B", portal=site.portal)
    assert "B: confirmed" in succeed("erase", "ada", portal=site.portal)


def test_a_removed_course_is_not_forgotten(site: Site, ada: int) -> None:
    alter_subscription(site, "B", "disable")
    cli("erase", "ada", "--yes", "--timeout", "0.5", portal=site.portal)
    succeed("course", "remove", "B", "--yes", portal=site.portal)
    result = cli("erase", "ada", portal=site.portal)
    assert result.returncode == 1
    assert "B: not confirmed: it was removed" in result.stdout


def test_rows_that_forbid_it_are_named_and_nothing_is_deleted(site: Site, ada: int) -> None:
    site.execute(
        "create table public.thesis (id int primary key, author_id bigint references auth_user);"
    )
    site.execute(
        "create table public.note (id int primary key,"
        " author_id bigint references auth_user on delete cascade)"
    )
    site.execute("insert into public.note values (1, %s)", ada)
    assert "1 rows of public.note" in cli("erase", "ada", portal=site.portal).stdout
    site.execute("insert into public.thesis values (1, %s)", ada)
    assert_refused(
        cli("erase", "ada", "--yes", portal=site.portal), "public.thesis (1 rows)", "elsewhere"
    )
    assert site.one("select count(*) from auth_user where username = 'ada'") == 1
    assert pending(site) == []
