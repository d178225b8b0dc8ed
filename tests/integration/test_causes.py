"""A cause that is named is the cause, and its remedy heals: tried on real servers.

Each remedy is run as it stands.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pysync.db import transactions
from pysync.diagnosis import sessions
from pysync.diagnosis.checks import portal_server
from pysync.errors import (
    LockedError,
    PortalUnreachableError,
    ReplicationError,
    UnsuitableServerError,
)
from pysync.findings import IN_COURSE, ON_PORTAL
from pysync.lifecycle import courses, durability, first_copy, move, resync
from pysync.replication import slots, snapshots, subscriptions
from pysync.texts import Text
from pysync.types import CourseId
from pysync.watching.doctor import examine
from pysync.watching.doctor import publisher as doctor
from pysync.watching.status import CourseStatus, State, status
from tests import support
from tests.support import PORTAL_TEMPLATE, Cluster, Silent, Site, enroll, eventually, insert_user

pytestmark = pytest.mark.oldest_and_newest("what workers wait for, and who may see it")

A = CourseId("A")
HOSTILE_GID = "it's \\ “mine”"
"""A transaction's number as its manager likes it."""


def become(site: Site, state: State, *words: str) -> CourseStatus:
    """Wait until the course is in a state, and check what is said about it."""
    seen: list[CourseStatus] = []

    def so() -> bool:
        seen[:] = status(site.portal)
        said = f"{seen[0].cause}; {seen[0].remedy}"
        return seen[0].state is state and all(word in said for word in words)

    try:
        eventually(so, 30)
    except AssertionError:
        pytest.fail(
            f"never {state} with {words}: {seen[0].state}: {seen[0].cause}; {seen[0].remedy}"
        )
    return seen[0]


def follow(connection: psycopg.Connection[Any], commands: tuple[str, ...]) -> None:
    """Run what a remedy has to be copied."""
    for command in commands:
        assert not command.startswith("pysync "), command
        for statement in command.split("; "):
            connection.execute(statement.encode())


def heal(site: Site) -> None:
    site.wait()
    become(site, State.STREAMING)


def prepare(site: Site, course_id: str | None, statement: str, gid: str = HOSTILE_GID) -> None:
    """Leave a prepared transaction behind; its session ends."""
    connection = site.course(course_id) if course_id else site.connect()
    with connection:
        connection.execute("begin")
        connection.execute(statement.encode())
        connection.execute(sql.SQL("prepare transaction {}").format(sql.Literal(gid)))


def test_a_prepared_transaction_that_a_worker_waits_for(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    prepare(site, "A", "select from course.auth_user for update")
    # Another one, which has a weaker lock on the table, isn't the cause.
    prepare(site, "A", "lock table course.auth_user in row share mode", "innocent")
    site.execute("update auth_user set email = 'new@example.org'")
    found = become(site, State.STUCK, "waits for a lock", "prepared transaction “it's", IN_COURSE)
    (command,) = found.commands
    assert command.startswith("rollback prepared ")
    # In one string with others it would be refused.
    with site.course("A") as session:
        session.execute(command.encode())
    heal(site)
    course.execute("rollback prepared 'innocent'")


@pytest.mark.newest("older versions apply all of a subscription in one process")
def test_a_parallel_worker_isnt_whom_its_leader_waits_for(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    site.execute(
        "do $$ begin execute format('alter database %I set debug_logical_replication_streaming"
        " = immediate', current_database()); end $$"
    )
    stream = "select substream from pg_subscription where subdbid = (select oid from pg_database"
    stream += " where datname = current_database())"
    assert course.execute(stream).fetchall() == [("p",)]
    workers = "select pg_terminate_backend(pid) from pg_stat_subscription where pid is not null"
    course.execute(workers)
    site.wait()
    with site.course("A") as session:
        session.execute("set application_name = 'left open'")
        with session.transaction():
            session.execute("select from course.auth_user for update")
            site.execute("update auth_user set email = 'new@example.org'")
            parallel = "select pid from pg_stat_activity where leader_pid is not null"
            pids = eventually(lambda: {pid for (pid,) in course.execute(parallel).fetchall()})
            found = become(site, State.STUCK, "“left open”")
            assert [str(pid) in f"{found.cause}" for pid in pids] == [False]
            (command,) = found.commands
            assert str(session.info.backend_pid) in command
            follow(course, found.commands)
            with pytest.raises(psycopg.OperationalError):
                session.execute("select")
    heal(site)


@contextmanager
def again_and_again(action: Callable[[], object]) -> Iterator[None]:
    """Do something all the time."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.3):
            action()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def slow(course: psycopg.Connection[Any]) -> None:
    """Have each update of a user take its time."""
    course.execute(
        "create function public.slow() returns trigger language plpgsql as"
        " $$ begin perform pg_catalog.pg_sleep(4); return null; end $$"
    )
    course.execute(
        "create trigger slow after update on course.auth_user"
        " for each row execute function public.slow()"
    )
    course.execute("alter table course.auth_user enable always trigger slow")


@pytest.mark.newest("that it is ended is seen by looking twice")
def test_a_worker_that_is_ended_again_and_again_doesnt_get_on(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    slow(course)
    site.execute("update auth_user set email = 'new@example.org'")
    # One that is left alone with it gets on.
    become(site, State.CATCHING_UP, "applies one transaction since")
    heal(site)
    site.execute("update auth_user set email = 'newer@example.org'")
    end = "select pg_terminate_backend(pid) from pg_stat_subscription where pid is not null"
    killer = site.course("A")
    with again_and_again(lambda: killer.execute(end)):
        for _ in range(2):
            found = become(site, State.STUCK, "apply worker", "longer than there was time to try")
            # Which of the two is seen is chance; neither the trial's own end, nor progress, is.
            assert re.search("is started again|no apply worker is connected", f"{found.cause}")
    heal(site)


class Following(Silent):
    """Follows what it is warned of, as it stands."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__()
        self._connection = connection

    def warn(self, message: str) -> None:
        super().warn(message)
        assert isinstance(message, Text)
        follow(self._connection, message.commands)


@pytest.fixture
def preparing_site(preparing_server: Cluster, course_server: Cluster) -> Iterator[Site]:
    """A site whose portal, too, is on a server that takes prepared transactions."""
    portal = preparing_server.create(template=PORTAL_TEMPLATE)
    site = Site(preparing_server, course_server, portal)
    yield site
    site.close()


def test_prepared_transactions_in_the_way_of_a_course_that_is_added(
    preparing_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = preparing_site
    monkeypatch.setattr(snapshots, "SLOT_TIMEOUT_SECONDS", 1)
    monkeypatch.setattr(transactions, "TRIES", 1)
    monkeypatch.setattr(first_copy, "HELD_SECONDS", 0.5)
    monkeypatch.setattr(doctor, "OPEN_SECONDS", 0)
    enroll(site, insert_user(site, "first"), "A")
    database = site.databases["A"] = site._course_database("A")

    def add(progress: Silent) -> None:
        courses.add(site.portal, A, database, progress)

    # Of its tables in the course, whose write guard is put back.
    site.course("A").execute("alter table course.auth_user disable trigger pysync_refuse_columns")
    prepare(site, "A", "lock table course.auth_user in share mode")
    with pytest.raises(LockedError, match="prepared transaction “it's") as error:
        add(Silent())
    assert error.value.remedy
    follow(site.course("A"), error.value.remedy.commands)

    # On the portal, whose slots wait for it, wherever on its server it is.
    prepare(site, None, "create table public.elsewhere (id integer)")
    with pytest.raises(ReplicationError, match="the oldest is prepared transaction “it's") as slot:
        add(Silent())
    assert slot.value.remedy
    (told,) = [each.finding for each in examine(site.portal) if "it's" in each.finding.object]
    assert told.commands == slot.value.remedy.commands
    follow(site.connect(), told.commands)

    # Or only then, so that the slots of its tables' copies wait.
    enable = subscriptions.enable

    def enable_beside(*arguments: Any) -> None:
        prepare(site, None, "create table public.elsewhere (id integer)")
        enable(*arguments)

    monkeypatch.setattr(subscriptions, "enable", enable_beside)
    progress = Following(site.connect())
    add(progress)
    assert [each for each in progress.warnings if "waits for a lock that prepared" in each]
    heal(site)


def test_the_trial_has_no_more_rights_than_the_worker(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    """Up to 15 these are the subscription's owner's, from 16 on each table's owner's."""
    (name, owner, table_owner) = course.execute(
        "select s.subname, s.subowner::regrole::text, c.relowner::regrole::text"
        "  from pg_subscription s, pg_database d, pg_class c where d.oid = s.subdbid"
        "   and d.datname = current_database() and c.oid = 'course.auth_user'::regclass"
    ).fetchall()[0]
    role = owner if owner == name else table_owner
    # Whatever it lacks is said with the table and the role.
    course.execute(f"revoke update on course.auth_user from {role}")
    site.execute("update auth_user set email = 'refused@example.org'")
    found = become(site, State.STUCK, "42501", "grant update on", role)
    follow(course, found.commands)
    heal(site)
    if role == owner:
        return
    with temporary_role(site) as weak:
        course.execute(f"grant pg_create_subscription to {weak}")
        course.execute(f"grant create on database {course.info.dbname} to {weak}")
        # A worker that is launched meanwhile would go on as the owner before.
        course.execute(f"alter subscription {name} disable")
        running = "select from pg_stat_subscription where subname = %s and pid is not null"
        eventually(lambda: not course.execute(running, (name,)).fetchall())
        course.execute(f"alter subscription {name} set (password_required = false)")
        course.execute(f"alter subscription {name} owner to {weak}")
        course.execute(f"alter subscription {name} enable")
        site.execute("update auth_user set email = 'refused again@example.org'")
        found = become(site, State.STUCK, f"belongs to role '{weak}', which may not act as")
        follow(course, found.commands)
        heal(site)


@contextmanager
def temporary_role(site: Site) -> Iterator[str]:
    """Make a role on both servers that goes away with the block."""
    name = f"role_{next(support._numbers)}"
    servers = [site.portal_server, site.course_server]
    for server in servers:
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            connection.execute(f"create role {name} login replication")
    try:
        yield name
    finally:
        for database in (site.portal, *site.databases.values()):
            with site.connect(
                database, options="-c default_transaction_read_only=off"
            ) as connection:
                connection.execute(f"drop owned by {name}")
                connection.execute(f"alter database {connection.info.dbname} reset all")
        for server in servers:
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                connection.execute(f"drop role {name}")


OURS = (
    *("statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"),
    "lock_timeout",
)


def has(connection: psycopg.Connection[Any], setting: str) -> bool:
    query = "select current_setting(%s, true) is not null"
    return connection.execute(query, (setting,)).fetchall() == [(True,)]


def test_settings_that_end_sessions_are_set_off_or_named(site: Site) -> None:
    """Of the role as which the course's server connects; of ours, they are set off."""
    enroll(site, insert_user(site, "first"), "A")
    database = site.databases["A"] = site._course_database("A")
    with temporary_role(site) as role:
        way_back = make_conninfo(site.portal, user=role)

        def add() -> None:
            courses.add(site.portal, A, database, Silent(), portal_conninfo_for_course=way_back)

        def said(alter: str, where: psycopg.Connection[Any], *words: str) -> None:
            """Set it, be refused with its name, and have the remedy make it work."""
            where.execute(alter.encode())
            with pytest.raises(UnsuitableServerError) as error:
                add()
            assert [word for word in words if word not in str(error.value)] == []
            assert error.value.remedy
            follow(where, error.value.remedy.commands)

        stay = "-c idle_session_timeout=0 -c statement_timeout=0"
        portal, course = site.connect(options=stay), site.connect(database, options=stay)
        said(f"alter role {role} set statement_timeout = '20ms'", portal, "'20ms'", role)
        name = portal.info.dbname
        said(f"alter database {name} set statement_timeout = '59s'", portal, "statement_timeout")
        # Or its own connection says otherwise, which its server heeds.
        portal.execute(f"alter role {role} set statement_timeout = '1ms'")
        overridden = make_conninfo(way_back, options="-c statement_timeout=0")
        assert [*sessions.of_copies(portal, overridden)] == []
        portal.execute(f"alter role {role} reset statement_timeout")
        said(f"alter role {role} connection limit 0", portal, "may have 0 connections")
        if has(course, "transaction_timeout"):
            alter = f"alter database {course.info.dbname} set transaction_timeout = '1s'"
            said(alter, course, "transaction_timeout is '1s'")
        # Our own sessions, on both sides; workers take marks also where transactions can't write.
        for connection in (portal, course):
            alter = f"alter database {connection.info.dbname} set "
            for setting in OURS:
                connection.execute((alter + f"{setting} = '100ms'").encode())
            connection.execute((alter + "default_transaction_read_only = on").encode())
        portal.execute(f"alter role {role} in database {name} set statement_timeout = 0")
        add()
        become(site, State.STREAMING)
        resync.resync(site.portal, A, Silent())
        become(site, State.STREAMING)
        told = [each.finding for each in examine(site.portal) if "_timeout" in each.finding.object]
        assert {(each.object, each.must) for each in told} == {
            ("setting lock_timeout", False),
            ("setting idle_session_timeout", False),
        }
        for connection, where in ((portal, ON_PORTAL), (course, IN_COURSE)):
            connection.execute("set default_transaction_read_only = off")
            for each in told:
                if where in each.cause:
                    follow(connection, each.commands)
        assert not [each for each in examine(site.portal) if "_timeout" in each.finding.object]


def test_whoever_may_not_read_replication_origins_sees_a_healthy_course(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    with temporary_role(site) as role:
        course.execute(f"grant pg_monitor to {role}")
        course.execute(f"grant usage on schema course to {role}")
        course.execute(f"grant select on all tables in schema course to {role}")
        site.execute("update pysync.course set conninfo = conninfo || ' user=' || %s", role)
        become(site, State.STREAMING)
        # It may ask for one's progress, and not for which there are.
        progress = "pg_replication_origin_progress(text, boolean)"
        course.execute(f"grant execute on function {progress} to {role}")
        course.execute("revoke select on pg_replication_origin from public")
        become(site, State.STREAMING)
        prepare(site, "A", "select from course.auth_user for update")
        site.execute("update auth_user set email = 'new@example.org'")
        become(site, State.STUCK, "prepared transaction “it's")
        course.execute(sql.SQL("rollback prepared {}").format(sql.Literal(HOSTILE_GID)))
        heal(site)


@pytest.mark.newest("the order of our own steps, whichever server does them")
def test_what_is_refused_changes_nothing(
    site: Site, course: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def state() -> list[Any]:
        found = site.execute("select * from pysync.course")
        found += course.execute("select * from course.this_course").fetchall()
        found += course.execute(
            "select subenabled, subconninfo, subslotname from pg_subscription where subdbid ="
            " (select oid from pg_database where datname = current_database())"
        ).fetchall()
        acl = "select nspacl::text from pg_namespace where nspname in ('course', 'pysync')"
        return found + site.execute(acl)

    before = state()
    with temporary_role(site) as role:
        site.execute(f"alter role {role} nologin")
        way_back = make_conninfo(site.portal, user=role)
        with pytest.raises(PortalUnreachableError):
            courses.add(
                *(site.portal, A, site.databases["A"], Silent()),
                portal_conninfo_for_course=way_back,
            )
        assert state() == before
        # Nor does the course stop that was to be moved, or merged.
        monkeypatch.setattr(slots, "SLOT_TIMEOUT_SECONDS", 1)
        monkeypatch.setattr(snapshots, "SLOT_TIMEOUT_SECONDS", 1)
        elsewhere = site.new_database()
        open_elsewhere = site.connect()
        open_elsewhere.execute("begin")
        open_elsewhere.execute("create table public.elsewhere (id integer)")
        with pytest.raises(ReplicationError, match="the oldest is process"):
            move.move(site.portal, A, elsewhere, Silent(), fresh=True)
        assert state() == before
        with pytest.raises(ReplicationError, match="the oldest is process"):
            resync.resync(site.portal, A, Silent())
        assert state() == before
        open_elsewhere.execute("rollback")
        heal(site)


@contextmanager
def server_setting(connection: psycopg.Connection[Any], name: str, value: str) -> Iterator[None]:
    """Have a server's setting be another for a while; nothing has to be committed for that."""

    def alter(statement: str, shown: str) -> None:
        connection.execute(f"alter system {statement}".encode())
        connection.execute("select pg_reload_conf()")
        show = "select current_setting(%s)"
        eventually(lambda: connection.execute(show, (name,)).fetchone() == (shown,))

    try:
        alter(f"set {name} = '{value}'", value)
        yield
    finally:
        alter(f"reset {name}", "")


def test_who_waits_for_a_standby_is_told_from_who_fails(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    durability.switch(site.portal, A, on=True)
    with server_setting(course, "synchronous_standby_names", "nobody"):
        site.execute("update auth_user set email = 'new@example.org'")
        become(site, State.STUCK, "waits for a synchronous standby", "synchronous_standby_names")
    heal(site)
    portal = site.connect()
    if not has(portal, "synchronized_standby_slots"):
        return
    with server_setting(portal, "synchronized_standby_slots", "nobody"):
        become(
            site, State.STUCK, "before a standby of its own has it", "synchronized_standby_slots"
        )
        (found,) = [each for each in portal_server(portal, 1) if "'nobody'" in each.cause]
        assert found.must
        assert found.commands == ("alter system set synchronized_standby_slots = ''",)
    heal(site)


def test_whom_a_worker_may_not_wait_for_is_named(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    """With a lock_timeout it fails again and again: not for what it applies."""
    course.execute(f"alter database {course.info.dbname} set lock_timeout = '50ms'")
    course.execute("select pg_terminate_backend(pid) from pg_stat_subscription where pid > 0")
    with site.course("A") as session:
        session.execute("set application_name = 'left open'")
        with session.transaction():
            session.execute("select from course.auth_user for update")
            site.execute("update auth_user set email = 'new@example.org'")
            eventually(lambda: become(site, State.STUCK, "“left open”").apply_errors)
    heal(site)
