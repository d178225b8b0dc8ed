"""Courses of a server with many are told by what their apply workers say, and looked into in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pysync.lifecycle import durability
from pysync.replication import polling
from pysync.types import CourseId
from pysync.watching.status import CourseStatus, State, hearsay, status
from tests.integration.test_causes import server_setting
from tests.integration.test_missing_marks import passing_over
from tests.support import Site, eventually

pytestmark = pytest.mark.oldest_and_newest("what a server shows of its workers")

A, B = CourseId("A"), CourseId("B")
SAID = (
    "select activity.application_name from pg_stat_subscription as running"
    " join pg_stat_activity as activity using (pid)"
    " join pg_subscription as s on s.oid = running.subid"
    " join pg_database as d on d.oid = s.subdbid and d.datname = current_database()"
    " where running.relid is null"
)


@pytest.fixture
def many(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Two courses of a server that counts as one with many, into which reports have looked."""
    monkeypatch.setattr(polling, "CONNECTIONS_PER_SERVER", 1)
    monkeypatch.setattr(hearsay, "LOOKS", 2)
    site.add(A)
    site.add(B)
    eventually(lambda: all(each.state is State.STREAMING for each in status(site.portal)))
    monkeypatch.setattr(hearsay, "LOOKS", 0)
    return site


def seen(site: Site) -> dict[str, CourseStatus]:
    return {each.course_id: each for each in status(site.portal)}


def guard(course: psycopg.Connection[Any], verb: str) -> None:
    course.execute(f"alter table course.auth_user {verb} trigger pysync_refuse_rows".encode())


def test_who_says_that_it_is_well_is_looked_into_in_turn(
    many: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard(many.course(B), "disable")
    found = seen(many)
    assert {each.state for each in found.values()} == {State.STREAMING}
    # Nobody did, and no report before that told of any by hearsay either.
    assert {each.looked_into_at for each in found.values()} == {None}
    assert {each.tables_ready for each in found.values()} == {4}
    assert all(each.lag_seconds is not None and each.lag_seconds < 2 for each in found.values())
    monkeypatch.setattr(hearsay, "LOOKS", 1)
    first, second = seen(many), seen(many)
    assert {first[B].state, second[B].state} == {State.STREAMING, State.DRIFTED}
    # Each was looked into by one of them, and what was found last is remembered.
    (later,) = (i for i in (A, B) if first[i].looked_into_at is None)
    (sooner,) = {A, B} - {later}
    before, now = second[sooner].looked_into_at, second[later].looked_into_at
    assert before is not None
    assert before == first[sooner].looked_into_at
    assert now is not None
    assert now > before


def lose_a_mark(site: Site) -> Iterator[State]:
    with passing_over(site):
        site.execute("select pysync.mark('A')")
    yield State.LOST


def have_no_trigger(site: Site) -> Iterator[State]:
    course = site.course(A)
    course.execute("alter table course.mark disable trigger pysync_note_missing_marks")
    yield State.DRIFTED


def have_a_mark_that_cannot_be_taken(site: Site) -> Iterator[State]:
    site.course(A).execute("alter table course.missing_mark rename to elsewhere")
    yield State.DRIFTED


def have_commits_wait(site: Site) -> Iterator[State]:
    durability.switch(site.portal, A, on=True)
    with server_setting(site.course(A), "synchronous_standby_names", "nobody"):
        yield State.STUCK


def have_it_altered_in_turn(site: Site) -> Iterator[State]:
    site.execute("update pysync.course set catalog_fingerprint = null where course_id = 'A'")
    guard(site.course(A), "disable")
    yield State.DRIFTED


@pytest.mark.newest("who says so and who doesn't; that it is seen is tried on both ends")
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "happens",
    [
        lose_a_mark,
        have_no_trigger,
        have_a_mark_that_cannot_be_taken,
        have_commits_wait,
        have_it_altered_in_turn,
    ],
)
def test_who_does_not_say_so_is_looked_into(many: Site, happens: Any) -> None:
    for expected in happens(many):
        found = eventually(
            lambda: each if (each := seen(many)[A]).state is not State.STREAMING else None
        )
        assert isinstance(found, CourseStatus)
        while found.state is not expected:
            assert found.looked_into_at is not None
            found = seen(many)[A]


def test_where_a_site_keeps_its_tables_nothing_is_said(many: Site) -> None:
    """Code of its own may run in the apply worker, and could say what it likes."""
    course = many.course(A)
    mark = many.one("select pysync.mark('A')")
    many.wait(A)
    (said,) = course.execute(SAID).fetchone() or ("",)
    assert int(said.removeprefix("pysync has mark ")) >= mark
    course.execute(
        "insert into course.adoption (table_name, undo, keeps_owner)"
        " values ('auth_user', '{}', true)"
        " on conflict (table_name) do update set keeps_owner = true"
    )
    many.wait(A)
    eventually(lambda: course.execute(SAID).fetchall() == [("",)])
    assert seen(many)[A].looked_into_at is not None
