"""Columns are carried while applications write, and wherever that is interrupted it is finished."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from functools import partial
from typing import Any, Self

import psycopg
import pytest
from psycopg import IsolationLevel, errors

from pysync.errors import PysyncError
from pysync.migrate import columns
from pysync.migrate.plan import run_all
from pysync.migrate.wanted import asked
from pysync.watching.status import status
from tests.acceptance.test_cli_process import cli, succeed
from tests.acceptance.test_cli_resync_killed import KilledError, Mortal
from tests.acceptance.test_columns import clean, down, values
from tests.acceptance.test_relays import add, add_relay, states
from tests.support import Silent, Site, enroll, eventually, insert_user

pytestmark = pytest.mark.oldest_and_newest("what locks, publications and triggers are like")

COLUMNS = {"auth_user": "country", "auth_userprofile": "locale", "student_courseenrollment": "mode"}
LEVELS = (
    IsolationLevel.READ_COMMITTED,
    IsolationLevel.REPEATABLE_READ,
    IsolationLevel.SERIALIZABLE,
)
USERS = 40


def wanted(table: str, **more: Any) -> columns.Asked:
    return partial(asked, table, [COLUMNS[table]], **{"scrub": None, "takes_over": False, **more})


def with_columns(site: Site) -> list[int]:
    for table, column in COLUMNS.items():
        site.execute(f"alter table public.{table} add column {column} text")
    return [insert_user(site, f"user{number}") for number in range(USERS)]


class Writers:
    """Eight of the portal's applications, at three isolation levels, and who waits too long."""

    def __init__(self, site: Site, *course_ids: str) -> None:
        self.site, self.course_ids = site, course_ids
        self.done = threading.Event()
        self.failures: list[BaseException] = []
        self.written = 0
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(8)]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        eventually(lambda: self.written > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join()

    def run(self, number: int) -> None:
        chosen = random.Random(number)
        try:
            with psycopg.connect(self.site.portal) as portal:
                portal.isolation_level = LEVELS[number % len(LEVELS)]
                # Nobody waits for much longer than a lock of ours is waited for.
                portal.execute("set statement_timeout = '8s'")
                portal.commit()
                while not self.done.wait(0.04):
                    with (
                        suppress(errors.SerializationFailure, errors.DeadlockDetected),
                        portal.transaction(),
                    ):
                        self.write(portal, chosen)
                    self.written += 1
        except BaseException as failure:  # noqa: BLE001 - the main thread raises it
            self.failures.append(failure)

    def write(self, portal: psycopg.Connection[Any], chosen: random.Random) -> None:
        user = f"user{chosen.randrange(USERS)}"
        find = "(select id from auth_user where username = %s)"
        value = f"{chosen.random()}"
        match chosen.randrange(5):
            case 0:
                portal.execute(
                    "update auth_user set country = %s, email = %s where username = %s",
                    (value, value, user),
                )
            case 1:
                portal.execute(
                    f"insert into auth_userprofile (user_id, locale) values ({find}, %s)"
                    " on conflict (user_id) do update set locale = excluded.locale",
                    (user, value),
                )
            case 2:
                portal.execute(
                    "insert into student_courseenrollment (user_id, course_id, mode)"
                    f" values ({find}, %s, %s) on conflict (user_id, course_id)"
                    " do update set mode = excluded.mode",
                    (user, chosen.choice(self.course_ids), value),
                )
            case 3:
                portal.execute(
                    f"delete from student_courseenrollment where user_id = {find}"
                    " and course_id = %s",
                    (user, chosen.choice(self.course_ids)),
                )
            case 4:
                portal.execute("update auth_user set country = null where username = %s", (user,))


@pytest.mark.timeout(180)
def test_columns_are_added_and_removed_while_applications_write(site: Site) -> None:
    with_columns(site)
    add_relay(site)
    for course, relay in (("A", None), ("B", "north"), ("C", None)):
        add(site, course, relay)
    with Writers(site, "A", "B", "C") as writers:
        with down(site, "C"):
            for table, column in COLUMNS.items():
                done = cli("column", "add", table, column, portal=site.portal, timeout=60)
                assert done.stderr.count("couldn't be brought there") == 1, done.stderr
        succeed("migrate", portal=site.portal)
        before = writers.written
        eventually(lambda: writers.failures or writers.written > before + 50)
    assert not writers.failures
    clean(site, "A", "B", "C")
    for course in ("A", "B", "C"):
        assert any(values(site.course(course), "course.auth_user", "country").values())
    with Writers(site, "A", "B", "C") as writers:
        for table, column in COLUMNS.items():
            succeed("column", "remove", table, column, "--drop", portal=site.portal)
    assert not writers.failures
    clean(site, "A", "B", "C")
    assert set(states(site).values()) == {"streaming"}


MOMENTS = ("with entered as", "update pysync.c", "alter table", "alter publication")
"""How the statements begin that change something on the way, on either side."""


@pytest.mark.newest("the order of our own steps, whichever server does them")
@pytest.mark.timeout(300)
def test_wherever_it_is_killed_it_is_finished_and_status_is_true(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = with_columns(site)[:2]
    add_relay(site)
    add(site, "A")
    add(site, "B", "north")
    for course in ("A", "B"):
        enroll(site, ada, course)
    table = "auth_user"
    told: set[str] = set()

    def write(value: str | None) -> None:
        site.execute("update public.auth_user set country = %s where id = %s", value, ada)

    def killed(lives: int, work: Any) -> bool:
        with monkeypatch.context() as patched, suppress(KilledError):
            mortal = Mortal(patched, lives, MOMENTS, since="")
            for _ in work(mortal.progress):
                pass
            return False
        write(f"after {lives}")
        enroll(site, bob, "A")
        if lives % 2:
            told.update(each.state.value for each in status(site.portal))
        site.execute("delete from public.student_courseenrollment where user_id = %s", bob)
        return True

    lives, dies = 0, True
    while dies:
        write(f"before {lives}")
        adding = partial(columns.add, site.portal, wanted(table, takes_over=True))
        dies = killed(lives, adding)
        # Either command finishes it.
        finish = run_all(site.portal, progress=Silent()) if lives % 2 else adding(Silent())
        for _ in finish:
            pass
        write(f"carried {lives}")
        site.wait("A", "B")
        for course in ("A", "B"):
            found = values(site.course(course), "course.auth_user", "country")
            assert found[ada] == f"carried {lives}", course
        if lives % 4 == 0:
            clean(site, "A", "B")
        removing = partial(columns.remove, site.portal, table, "country", "keep")
        if killed(lives, removing):
            dies = True
            with suppress(PysyncError):  # it was done
                for _ in removing(Silent()):
                    pass
        lives += 1
    clean(site, "A", "B")
    assert lives > 8, "it isn't killed where it was meant to be"
    assert "streaming" in told
    assert told <= {"streaming", "drifted", "catching-up"}
