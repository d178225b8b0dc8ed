"""Resynchronise a large course under constant writes; print time, memory and the slowest read.

Run as ``python -m tests.benchmarks.resync [USERS]``; 100,000 by default. A twentieth of each table's
rows is wrong or missing, 1,000 users are surplus, and rows of the course's own point at 100 of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import psycopg
from rich.console import Console

from pysync.lifecycle import courses
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.types import CourseId
from tests.benchmarks.pair import server_pair
from tests.support import Silent

COURSE = CourseId("A")
TABLES = ("auth_user", "auth_userprofile", "student_courseenrollment")

DAMAGE = """
alter table course.auth_user add column karma integer not null default 1;
create table public.post (id bigint primary key, author_id bigint references course.auth_user);
set session_replication_role = replica;
update course.auth_user set karma = id + 1000;
update course.auth_user set first_name = 'wrong' where id % 20 = 0;
delete from course.student_courseenrollment where id % 20 = 1;
update course.auth_userprofile set goals = 'wrong' where id % 20 = 2;
insert into course.auth_user (id, course_id, username, password)
    select n, 'A', 'local' || n, '' from generate_series(10000001, 10001000) as n;
insert into public.post select n, n from generate_series(10000001, 10000100) as n;
"""


@dataclass
class Load:
    """An application that writes to the portal, and one that reads in the course."""

    portal: str
    course: str
    users: int
    done: threading.Event = field(default_factory=threading.Event)
    writes: int = 0
    reads: int = 0
    slowest_read_seconds: float = 0.0

    def write(self) -> None:
        with psycopg.connect(self.portal, autocommit=True) as connection:
            while not self.done.wait(0.005):
                self.writes += 1
                connection.execute(
                    "update auth_user set last_name = %s where id = %s",
                    (f"n{self.writes}", self.writes % self.users + 1),
                )
                name = f"late{self.writes}"
                connection.execute(
                    "insert into auth_user (username, password) values (%s, '')", (name,)
                )
                connection.execute(
                    "insert into student_courseenrollment (user_id, course_id)"
                    " select id, %s from auth_user where username = %s",
                    (COURSE, name),
                )

    def read(self) -> None:
        with psycopg.connect(self.course, autocommit=True) as connection:
            while not self.done.wait(0.002):
                self.reads += 1
                began = time.monotonic()
                connection.execute(
                    "select karma, email from auth_user where username = %s",
                    (f"user{self.reads % self.users + 1}",),
                ).fetchone()
                taken = time.monotonic() - began
                self.slowest_read_seconds = max(self.slowest_read_seconds, taken)


def main() -> None:
    users = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    console = Console(highlight=False, soft_wrap=True)

    with server_pair(console.print) as pair:
        portal, course = pair.portal.create_database("p"), pair.courses.create_database("c")
        migrate(portal, PORTAL, "portal")
        with psycopg.connect(portal, autocommit=True) as connection:
            connection.execute(
                "with added as (insert into auth_user (username, password, email)"
                "   select 'user' || n, repeat('x', 80), 'user' || n || '@example.org'"
                "     from generate_series(1, %s) as n returning id)"
                " insert into auth_userprofile (user_id, name, meta, goals)"
                " select id, 'name ' || id, repeat('m', 200), repeat('g', 100) from added",
                (users,),
            )
            connection.execute(
                "insert into student_courseenrollment (user_id, course_id)"
                " select id, %s from auth_user",
                (COURSE,),
            )
        began = time.monotonic()
        courses.add(portal, COURSE, course, Silent())
        console.print(f"{users:,} users; native first copy: {time.monotonic() - began:.1f} s")
        with psycopg.connect(course, autocommit=True) as connection:
            connection.execute(DAMAGE)
            connection.execute("vacuum analyze")

        load = Load(portal, course, users)
        threads = [threading.Thread(target=job) for job in (load.write, load.read)]
        for thread in threads:
            thread.start()
        while min(load.writes, load.reads) < 100:
            time.sleep(0.05)
        load.slowest_read_seconds = 0
        before = load.writes, load.reads
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "pysync", "resync", COURSE],
            env={**os.environ, "PYSYNC_PORTAL": portal},
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        load.done.set()
        for thread in threads:
            thread.join()
        console.print(
            f"resync: {seconds:.1f} s, status {process.returncode}, peak memory"
            f" {usage.ru_maxrss / 1024:.0f} MB, processor"
            f" {usage.ru_utime + usage.ru_stime:.1f} s; meanwhile {load.writes - before[0]} rounds"
            f" of writes, {load.reads - before[1]} reads, the slowest"
            f" {load.slowest_read_seconds * 1000:.0f} ms"
        )
        console.print(f"differences: {differences(portal, course)}")


def differences(portal: str, course: str) -> list[str]:
    """Return the tables that differ, and what is wrong with the course's own column."""
    found = []
    with (
        psycopg.connect(portal, autocommit=True) as there,
        psycopg.connect(course, autocommit=True) as here,
    ):
        (mark,) = there.execute("select pysync.mark(%s)", (COURSE,)).fetchone() or (None,)
        here.execute("call course.wait_for(%s, '60 s')", (mark,))
        for table in TABLES:
            columns = ", ".join(
                name
                for (name,) in there.execute(
                    "select attname from pg_attribute where attrelid = %s::regclass"
                    " and attnum > 0 and attname <> 'live' order by 1",
                    (f"course.{table}",),
                )
            )
            query = (
                "select count(*), md5(string_agg(md5(r::text), '' order by id))"
                f" from (select {columns} from course.{table}) as r"
            )
            if there.execute(query).fetchone() != here.execute(query).fetchone():
                found.append(table)
        wrong = here.execute(
            "select count(*) from course.auth_user where karma <> id + 1000 and id < 10000000"
            " and username like 'user%'"
        ).fetchone()
        if wrong != (0,):
            found.append(f"karma: {wrong}")
    return found


if __name__ == "__main__":
    main()
