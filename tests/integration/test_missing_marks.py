"""Nothing is lost in silence: marks form a chain, and a course notes which never arrived."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pysync.errors import ChangesMissingError, PysyncError
from pysync.lifecycle import erase, pause, resync
from pysync.replication import marks, publications, registry
from pysync.types import CourseId
from pysync.verification import Verification, repair, verify
from pysync.verification.verify import record
from pysync.watching.status import CourseStatus, State, status
from tests.support import Silent, Site, drop_slot, enroll, eventually, insert_user

pytestmark = pytest.mark.oldest_and_newest("what a slot passes over, and what a worker then says")

A = CourseId("A")
CHANGES_MISSING = "PY007"


def name_of(site: Site) -> str:
    return str(site.one("select replication_name from pysync.course where course_id = 'A'"))


@contextmanager
def passing_over(site: Site) -> Iterator[None]:
    """Have the course's slot pass over what is committed in the block."""
    with site.course("A") as course, site.connect() as portal:
        name = name_of(site)
        own = sql.Identifier(name)
        course.execute(sql.SQL("alter subscription {} disable").format(own))
        active = "select active from pg_replication_slots where slot_name = %s"
        eventually(lambda: portal.execute(active, (name,)).fetchall() == [(False,)])
        yield
        portal.execute("select pg_replication_slot_advance(%s, pg_current_wal_lsn())", (name,))
        course.execute(sql.SQL("alter subscription {} enable").format(own))


def seen(site: Site) -> CourseStatus:
    (found,) = status(site.portal)
    return found


def become(site: Site, state: State, *words: str) -> CourseStatus:
    """Wait until the course is in a state, and check what is said about it."""
    found = eventually(lambda: each if (each := seen(site)).state is state else None, 30)
    assert isinstance(found, CourseStatus)
    said = f"{found.cause}; {found.remedy}"
    assert [word for word in words if word not in said] == [], said
    return found


def differences(site: Site) -> int:
    (found,) = verify(site.portal, [A], Silent())
    assert found.error is None
    return len(found.differences)


def heal(site: Site) -> None:
    """Follow the remedy."""
    resync.resync(site.portal, A, Silent())
    site.wait()
    become(site, State.STREAMING)
    assert differences(site) == 0
    with site.course("A") as course:
        assert course.execute("select * from course.missing_mark").fetchall() == []


def test_marks_that_never_arrived_are_noted_and_told_everywhere(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    before = site.one("select marked_at from course.mark")
    with passing_over(site):
        site.execute("update auth_user set email = 'lost@example.org'")
        lost = site.one("select pysync.mark('A')")
    mark = site.one("select pysync.mark('A')")
    with pytest.raises(psycopg.Error, match=f"course 'A' has received mark {mark}, but") as error:
        course.execute("call course.wait_for(%s, interval '30 s')", (mark,))
    assert error.value.sqlstate == CHANGES_MISSING
    after = site.one("select marked_at from course.mark")
    rows = course.execute("select number, lost_after, lost_before from course.missing_mark")
    assert rows.fetchall() == [(lost, before, after)]
    view = course.execute("select missing_since, missing_until from course.replication_status")
    assert view.fetchall() == [(before, after)]
    become(site, State.LOST, f"changes between {before:%Y-%m-%d %H:%M:%S}", "'pysync resync A'")
    with pytest.raises(ChangesMissingError):
        marks.wait(site.portal, A, 10)
    assert differences(site) == 1
    # It stays so, though later marks follow one another.
    site.execute("select pysync.mark('A') from generate_series(1, 3)")
    become(site, State.LOST)
    user_id = erase.erase(site.portal, "first")
    (proof,) = erase.prove(site.portal, [user_id], 10)
    assert (proof.confirmed, proof.reason is None) == (False, False)
    heal(site)
    (proof,) = erase.prove(site.portal, [user_id], 10)
    assert proof.confirmed


def test_each_of_several_senders_marks_counts(site: Site, course: psycopg.Connection[Any]) -> None:
    """The lost mark's row may be locked for long afterwards, or be new, or be used no more."""
    with site.connect() as first, site.connect() as second, site.connect() as portal:
        first.execute("begin")
        second.execute("begin")
        for connection in (first, second, portal):
            connection.execute("select pysync.mark('A')")
        first.execute("commit")
        second.execute("commit")
        site.wait()
        assert site.one("select count(*) from course.mark") == 3
        assert course.execute("select * from course.missing_mark").fetchall() == []
        # Two senders stay open while a third, with the third row or a new one, is passed over.
        for connection in (first, second):
            connection.execute("begin")
            connection.execute("select pysync.mark('A')")
        with passing_over(site):
            (lost,) = portal.execute("select pysync.mark('A')").fetchall()[0]
        third = site.connect()
        third.execute("begin")
        third.execute("select from course.mark where number = %s for update", (lost,))
        first.execute("rollback")
        (mark,) = portal.execute("select pysync.mark('A')").fetchall()[0]
        with pytest.raises(psycopg.Error) as error:
            course.execute("call course.wait_for(%s, interval '30 s')", (mark,))
        assert error.value.sqlstate == CHANGES_MISSING
        assert course.execute("select number from course.missing_mark").fetchall() == [(lost,)]
        for _ in range(5):
            portal.execute("select pysync.mark('A')")
        third.execute("rollback")
        second.execute("commit")
    become(site, State.LOST)
    assert course.execute("select count(*) from course.missing_mark").fetchall() == [(1,)]
    heal(site)


def test_the_trigger_never_stops_replication(site: Site, course: psycopg.Connection[Any]) -> None:
    """What it can't note it doesn't take: the mark is then looked for in vain, and noted later."""
    course.execute("alter table course.missing_mark rename to elsewhere")
    with passing_over(site):
        site.execute("select pysync.mark('A')")
    mark = site.one("select pysync.mark('A')")
    user = insert_user(site, "later")
    enroll(site, user, "A")
    arrived = "select exists (select from course.auth_user where id = %s)"
    eventually(lambda: course.execute(arrived, (user,)).fetchall() == [(True,)])
    taken = "select exists (select from course.mark where number >= %s)"
    assert course.execute(taken, (mark,)).fetchall() == [(False,)]
    errors = course.execute("select apply_error_count from pg_stat_subscription_stats")
    assert errors.fetchall() == [(0,)]
    course.execute("alter table course.elsewhere rename to missing_mark")
    site.execute("select pysync.mark('A')")
    missing = "select exists (select from course.missing_mark)"
    eventually(lambda: course.execute(missing).fetchall() == [(True,)])
    become(site, State.LOST)
    heal(site)


def renew_slot(site: Site) -> None:
    with site.connect() as portal:
        name = name_of(site)
        drop_slot(portal, name)
        portal.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))


def test_a_slot_made_anew_while_paused(site: Site, course: psycopg.Connection[Any]) -> None:
    pause.switch(site.portal, A, on=False)
    site.execute("update auth_user set email = 'lost@example.org'")
    become(site, State.PAUSED)
    renew_slot(site)
    become(site, State.LOST, "isn't where 'course pause' left it", "'pysync resync A'")
    assert site.one("select lost_at is not null from pysync.subscription_status")
    with pytest.raises(PysyncError, match="isn't where 'course pause' left it"):
        pause.switch(site.portal, A, on=True)
    heal(site)
    assert site.one("select lost_at is null from pysync.subscription_status")
    # Paused by hand there is no such position: marks tell.
    own = sql.Identifier(name_of(site))
    course.execute(sql.SQL("alter subscription {} disable").format(own))
    site.execute("update auth_user set email = 'lost again@example.org'")
    for _ in range(2):
        become(site, State.PAUSED)
    renew_slot(site)
    become(site, State.LOST, "passed over marks", "'pysync resync A'")
    become(site, State.LOST, "'pysync resync A'")
    with pytest.raises(PysyncError, match="changes are missing"):
        pause.switch(site.portal, A, on=True)
    heal(site)
    pause.switch(site.portal, A, on=False)
    site.execute("update auth_user set email = 'kept@example.org'")
    pause.switch(site.portal, A, on=True)
    site.wait()
    become(site, State.STREAMING)
    assert differences(site) == 0


def test_a_publication_dropped_and_made_again(site: Site, course: psycopg.Connection[Any]) -> None:
    with site.connect() as portal:
        registered = registry.get(portal, A)
        publications.drop(portal, registered)
        site.execute("update auth_user set email = 'lost@example.org'")
        found = eventually(lambda: _unless(site, State.STREAMING))
        assert found.remedy == "run 'pysync resync A'"
        publications.ensure(portal, registered)
        # Where decoding stops at the gap, that is found by trying; elsewhere marks tell.
        found = eventually(lambda: _unless(site, State.STREAMING, State.CATCHING_UP, State.DRIFTED))
        assert found.remedy == "run 'pysync resync A'"
        assert found.state in {State.LOST, State.STUCK}
    heal(site)


def test_a_verification_that_a_merge_overtook_does_not_count(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    found = Verification(A, unsettled=3)
    with site.connect() as portal:
        began_at = site.one("select clock_timestamp()")
        resync.resync(site.portal, A, Silent())
        assert not record(portal, found, began_at)
        become(site, State.STREAMING)
        assert record(portal, found, site.one("select clock_timestamp()"))
        become(site, State.DRIFTED, "3 rows differed")
        # Of two, the one that began later counts, whichever ends first.
        assert differences(site) == 0
        assert not record(portal, found, began_at)
        become(site, State.STREAMING)


def _unless(site: Site, *states: State) -> CourseStatus | None:
    return None if (found := seen(site)).state in states else found


def test_changes_that_meet_no_row_are_told_where_they_are_counted(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    rows = course.execute("select to_jsonb(s) from pg_stat_subscription_stats s limit 1").fetchall()
    counted = "confl_update_missing" in rows[0][0]
    with course.transaction():
        course.execute("set local session_replication_role = replica")
        course.execute("delete from course.student_courseenrollment")
        course.execute("delete from course.auth_user")
    site.execute("update auth_user set email = 'of nobody@example.org'")
    if counted:
        become(site, State.DRIFTED, "1 changes met no row", "'pysync repair A'")
    assert differences(site) > 0
    become(site, State.DRIFTED, "'pysync repair A'")
    repair(site.portal, A, Silent())
    become(site, State.STREAMING)
