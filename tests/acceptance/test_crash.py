"""Either server dies in the middle of its work: nothing that was committed is missing afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.test_cli_process import OwnCluster, courses_of, own_servers
from tests.support import Site, assert_live_rows, eventually

pytestmark = pytest.mark.oldest_and_newest(
    "what a server that died has kept, and where its slots begin again"
)

COURSES = ("A", "B")


@pytest.fixture
def own_site(major: int, folder: Path) -> Iterator[Site]:
    """A portal and courses on servers that nobody else needs."""
    with own_servers(major, folder, "crash", *COURSES) as site:
        yield site


class Writer(threading.Thread):
    """An application that goes on through crashes and knows what was committed."""

    def __init__(self, site: Site, name: str) -> None:
        super().__init__(name=name)
        self.site = site
        self.done = threading.Event()
        self.committed: list[str] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self.done.is_set():
                try:
                    with psycopg.connect(self.site.portal, autocommit=True) as connection:
                        self.write(connection)
                except psycopg.OperationalError:
                    self.done.wait(0.02)
        except Exception as failure:  # noqa: BLE001 - the main thread raises it
            self.failure = failure

    def write(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        number = len(self.committed)
        # A server that dies is to be at work, not out of breath.
        while not self.done.wait(0.04):
            number += 1
            username = f"{self.name}-{number}-{connection.info.backend_pid}"
            with connection.transaction():
                connection.execute(
                    "insert into auth_user (username, password) values (%s, '')", (username,)
                )
                connection.execute(
                    "insert into student_courseenrollment (user_id, course_id)"
                    " select id, %s from auth_user where username = %s",
                    (COURSES[number % 2], username),
                )
            self.committed.append(username)
            connection.execute(
                "update auth_user set email = %s where username = %s",
                (f"{username}@example.org", self.committed[number // 2 % len(self.committed)]),
            )
            if number % 5 == 0:
                connection.execute(
                    "delete from student_courseenrollment where user_id ="
                    " (select id from auth_user where username = %s)",
                    (self.committed[number // 3 % len(self.committed)],),
                )

    def await_progress(self) -> None:
        before = len(self.committed)
        eventually(lambda: len(self.committed) > before + 10 or self.failure)


@pytest.mark.timeout(180)
def test_nothing_is_lost_when_a_server_is_killed_under_load(own_site: Site) -> None:
    portal_server, course_server = own_site.portal_server, own_site.course_server
    assert isinstance(portal_server, OwnCluster)
    assert isinstance(course_server, OwnCluster)
    writers = [Writer(own_site, name) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    try:
        for server in (course_server, portal_server, course_server):
            for writer in writers:
                writer.await_progress()
            server.kill()
            if server is course_server:
                # The portal's applications don't notice.
                for writer in writers:
                    writer.await_progress()
                states = {
                    k: v["state"] for k, v in courses_of("status", portal=own_site.portal).items()
                }
                assert states == dict.fromkeys(COURSES, "unreachable")
            server.server.start()
        for writer in writers:
            writer.await_progress()
    finally:
        for writer in writers:
            writer.done.set()
            writer.join()
    assert_whole(own_site, writers)


def assert_whole(site: Site, writers: list[Writer]) -> None:
    """All that writers have committed is on the portal, and in the courses what is to be there."""
    for writer in writers:
        assert writer.failure is None
    site.wait()
    committed = {username for writer in writers for username in writer.committed}
    found = {username for (username,) in site.execute("select username from auth_user")}
    assert committed <= found
    copies: set[str] = set()
    for course_id in COURSES:
        assert_live_rows(site, course_id)
        rows = site.course(course_id).execute("select username from auth_user").fetchall()
        copies |= {username for (username,) in rows}
    assert copies == found
    states = {k: v["state"] for k, v in courses_of("status", portal=site.portal).items()}
    assert states == dict.fromkeys(site.databases, "streaming")
