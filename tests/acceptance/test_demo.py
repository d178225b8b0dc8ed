"""``pysync demo`` as a process on its own servers, and how it maps the dataset."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

import psycopg
import pytest

from pysync.db.connections import connect
from pysync.demo import differences, oulad
from pysync.demo.check import Comparison, compare_course
from pysync.demo.oulad import Registration
from pysync.errors import DemoError
from pysync.replication import marks
from pysync.types import CourseId
from tests import pack_oulad
from tests.conftest import EVERYWHERE

MARK = "PYSYNC_TEST_MARK"
"""An environment variable that servers inherit: tells a test's servers from anybody else's."""

SMALL_COURSES = ("AAA/2013J", "AAA/2014J")

MODULES = ("AAA", "GGG")
"""Whose five courses the whole demo is tested with; with all twenty-two before a release."""

FEW = 8
"""Of how many students one is kept where a demo's data don't matter."""

FULL_DEMO_LIMIT_SECONDS = 200
"""More than the demo takes, since other tests may run beside it: this is no benchmark."""


# Processes.


class DemoProcess:
    """A demo that runs as a process, and the folders its servers were seen in."""

    def __init__(self, program: list[str], *arguments: str) -> None:
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.folders: set[Path] = set()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYSYNC_"))}
        self.process = subprocess.Popen(
            [sys.executable, *program, "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Somebody's settings for libpq are none of the demo's business.
            env=env | {MARK: self.mark, "PGSSLMODE": "require", "PGOPTIONS": "-c nonsense=1"},
        )

    def look(self) -> None:
        """Note the folders that this demo's servers run in."""
        # Few folders, and who serves them: not every process there is, again and again.
        for folder in Path("/tmp").glob("pysync-demo-*"):
            # Others' folders go while one looks.
            with suppress(OSError):
                for file in folder.glob("*/data/postmaster.pid"):
                    self.look_at(file)

    def look_at(self, file: Path) -> None:
        with suppress(OSError, IndexError):
            pid = file.read_text().split()[0]
            if f"{MARK}={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                self.folders.add(file.parents[2])

    def finish(self, timeout_seconds: float = 100) -> tuple[str, str]:
        """Wait for the end; returns standard output and standard error."""
        deadline = time.monotonic() + timeout_seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "the demo takes too long"
            self.look()
            time.sleep(0.5)
        return self.process.communicate()

    def wait_for_servers(self, timeout_seconds: float = 60) -> None:
        """Wait until both servers accept connections."""
        deadline = time.monotonic() + timeout_seconds
        while not self.folders or not all(
            (folder / server / "data" / "postmaster.pid").exists()
            and "ready" in (folder / server / "data" / "postmaster.pid").read_text()
            for folder in self.folders
            for server in ("portal", "courses")
        ):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "no servers"
            self.look()
            time.sleep(0.02)

    def assert_nothing_left(self) -> None:
        """Neither a folder nor a process remains; there was exactly one folder."""
        assert len(self.folders) == 1
        (folder,) = self.folders
        assert not folder.exists()
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = file.read_bytes()
            except OSError:
                continue
            assert str(folder).encode() not in command

    def kill(self) -> None:
        """Interrupt it if it still runs, so that it clears away behind itself."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.communicate(timeout=60)


@pytest.fixture
def demos() -> Iterator[list[DemoProcess]]:
    """Processes to end whatever happens."""
    started: list[DemoProcess] = []
    yield started
    for each in started:
        each.kill()


def small_demo(
    folder: Path, *extra: str, course_ids: Collection[str] = SMALL_COURSES, every: int = FEW
) -> list[str]:
    """Return a program that runs pysync on few courses' registrations, after `extra` statements.

    :param every: of how many students one is kept.
    """
    file = folder / "small.csv.gz"
    with gzip.open(oulad.FILE, "rt", newline="") as lines:
        rows = list(csv.DictReader(lines))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(
        row
        for row in rows
        if row["course_id"] in course_ids and int(row["id_student"]) % every == 0
    )
    file.write_bytes(gzip.compress(text.getvalue().encode()))
    statements = (
        "import pathlib",
        "from pysync.demo import oulad",
        f"oulad.FILE = pathlib.Path({str(file)!r})",
        *extra,
        "from pysync.cli import main",
        "main()",
    )
    return ["-c", "\n".join(statements)]


@pytest.mark.timeout(FULL_DEMO_LIMIT_SECONDS + 30)
def test_replays_everything_compares_every_row_and_clears_away(
    demos: list[DemoProcess], tmp_path: Path
) -> None:
    everything = oulad.read()
    replayed, program = everything, ["-m", "pysync"]
    if not os.environ.get(EVERYWHERE):
        replayed = [each for each in everything if each.course_id.startswith(MODULES)]
        course_ids = {each.course_id for each in replayed}
        program = small_demo(tmp_path, course_ids=course_ids, every=1)
    demo = DemoProcess(program)
    demos.append(demo)
    out, err = demo.finish(FULL_DEMO_LIMIT_SECONDS)
    assert demo.process.returncode == 0, err
    demo.assert_nothing_left()
    students = len({each.student.number for each in replayed})
    left = sum(each.unregistered is not None for each in replayed)
    users = len(replayed)
    for total in (
        f"{students:,} students",
        f"{users:,} registrations",
        f"{left:,} unregistrations",
    ):
        assert total in out
    rows = [
        line.split()
        for line in out.splitlines()
        if re.match(r"\s*([A-G]{3}/201[34][BJ]|total)", line)
    ]
    expected: dict[str, list[int]] = {}
    for each in replayed:
        for name in (each.course_id, "total"):
            enrolled, copies = expected.setdefault(name, [0, 0])
            expected[name] = [enrolled + (each.unregistered is None), copies + 1]
    assert len(expected) == (6 if replayed is not everything else 23)
    assert rows == [
        [name, f"{enrolled:,}", f"{enrolled:,}", f"{copies:,}", "0"]
        for name, (enrolled, copies) in sorted(expected.items())
    ]
    assert rows[-1] == ["total", f"{users - left:,}", f"{users - left:,}", f"{users:,}", "0"]
    latency = re.search(r"200 single changes: p50 ([\d.]+) ms, p99 ([\d.]+) ms", out)
    assert latency is not None
    assert 0 < float(latency[1]) <= float(latency[2])
    assert "  state: Required if country is USA or CAN.\n" in out
    assert re.search(
        r"candidate edX\d+; the registration edX\d+\n"
        r"is pending accommodation, then pending acknowledgement, then accepted\.",
        out,
    )
    assert "CC-BY 4.0" in out
    assert max(map(len, out.splitlines())) <= 80
    # Plain lines in a pipe.
    assert "replaying 2013" in err
    assert "\x1b" not in err + out


def test_kept_servers_can_be_looked_at_and_stopped_as_told(
    demos: list[DemoProcess], tmp_path: Path
) -> None:
    demo = DemoProcess(small_demo(tmp_path), "--keep")
    demos.append(demo)
    out, err = demo.finish()
    assert demo.process.returncode == 0, err
    demo.look()
    # What is indented is for the shell, in this order; the last line stops the servers.
    commands = re.findall(r"(?m)^  (.*(?:\n    .*)*)", out[out.index("For your shell") :])
    stop = commands.pop()
    try:
        script = re.sub(
            r"(?m)^pysync ", f"{shlex.quote(sys.executable)} -m pysync ", "\n".join(commands)
        )
        looked = subprocess.run(
            ["sh", "-euc", script], check=False, capture_output=True, text=True, timeout=60
        )
        portal = shlex.split(commands[2])[1].partition("=")[2]
        course = shlex.split(commands[1])[0].partition("=")[2]
        assert_differences_are_found(portal, course)
    finally:
        stopped = subprocess.run(shlex.split(stop), check=False, timeout=60)
    assert looked.returncode == 0, looked.stderr
    assert "UPDATE 1" in looked.stdout
    assert all(course_id in looked.stdout for course_id in SMALL_COURSES)
    assert stopped.returncode == 0
    demo.assert_nothing_left()


def assert_differences_are_found(portal_conninfo: str, course_conninfo: str) -> None:
    """Every kind of difference between a portal and a course is counted."""
    course_id = CourseId("AAA/2013J")
    registrations = [
        each
        for each in oulad.read()
        if each.course_id == course_id and each.student.number % FEW == 0
    ]
    members = [each.student.username for each in registrations]
    live = sum(each.unregistered is None for each in registrations)
    frozen = next(each for each in registrations if each.unregistered is not None)
    someone = next(each for each in registrations if each.unregistered is None)
    is_frozen = f"user_id = (select id from auth_user where username = '{frozen.student.username}')"
    with connect(portal_conninfo) as portal, psycopg.connect(course_conninfo) as course:
        # Frozen copies don't know of the logins that the latency was measured with.
        portal.execute("update public.auth_user set last_login = null")
        marks.wait(portal_conninfo, course_id, 30)
        # What an apply worker may do, a local session may not: the guard is for another test.
        course.execute("set session_replication_role = replica")
        course.execute("set timezone = 'UTC'")
        for tampering, rows_that_differ in (
            (f"update auth_user set email = 'x' where username = '{someone.student.username}'", 1),
            ("update auth_userprofile set meta = meta || ' '", len(members)),
            ("delete from student_courseenrollment", live),
            (f"delete from auth_userprofile where {is_frozen}", 1),
            (f"delete from auth_user where username = '{frozen.student.username}'", 1),
            (
                "insert into auth_user (id, course_id, username, password)"
                " values (-1, 'AAA/2013J', 'nobody', '')",
                1,
            ),
            ("update auth_user set id = -id", 2 * len(members)),
        ):
            with course.transaction(force_rollback=True):
                before = compare_course(portal, course, course_id, members)
                assert before == Comparison(course_id, live, live, len(members), 0)
                course.execute(tampering)
                after = compare_course(portal, course, course_id, members)
                assert after.rows_that_differ == rows_that_differ, tampering


def test_a_difference_makes_it_fail(demos: list[DemoProcess], tmp_path: Path) -> None:
    demo = DemoProcess(
        small_demo(
            tmp_path,
            "import psycopg",
            "from pysync.demo import replay",
            "catch_up = replay.catch_up",
            "def tamper(site, progress):",
            "    catch_up(site, progress)",
            "    with psycopg.connect(site.databases['AAA/2014J']) as course:",
            "        course.execute('set session_replication_role = replica')",
            "        course.execute('delete from auth_userprofile where id ="
            " (select min(id) from auth_userprofile)')",
            "replay.catch_up = tamper",
        )
    )
    demos.append(demo)
    out, err = demo.finish()
    assert demo.process.returncode == 1
    assert "demo found 1 rows that differ" in err.splitlines()[-1]
    assert "'AAA/2014J'" in err.splitlines()[-1]
    assert "Traceback" not in err
    rows = {line.split()[0]: line.split()[-1] for line in out.splitlines() if "AAA/" in line}
    assert rows == {"AAA/2013J": "0", "AAA/2014J": "1"}
    demo.assert_nothing_left()


@pytest.mark.parametrize(
    ("number", "options"),
    [
        pytest.param(signal.SIGINT, [], id="ctrl-c"),
        pytest.param(signal.SIGTERM, ["--keep"], id="terminated-keep"),
    ],
)
def test_an_interrupt_stops_and_removes_everything(
    demos: list[DemoProcess], tmp_path: Path, number: signal.Signals, options: list[str]
) -> None:
    demo = DemoProcess(small_demo(tmp_path), *options)
    demos.append(demo)
    demo.wait_for_servers()
    demo.process.send_signal(number)
    _, err = demo.finish()
    assert demo.process.returncode == 130
    assert "demo interrupted" in err
    assert "Traceback" not in err
    demo.assert_nothing_left()


def test_without_a_server_the_error_says_what_to_install(tmp_path: Path) -> None:
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pysync.demo import servers; servers._candidates = lambda: iter(());"
            "from pysync.cli import main; main()",
            "demo",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert len(finished.stderr.splitlines()) == 1
    assert "pysync[embedded]" in finished.stderr
    assert "PG_BINDIR" in finished.stderr


# The data.


@pytest.fixture(scope="module")
def registrations() -> list[Registration]:
    return oulad.read()


def test_the_data_is_complete_and_as_packed(registrations: list[Registration]) -> None:
    assert len(oulad.course_ids(registrations)) == 22
    assert len({each.student.number for each in registrations}) == 28785
    assert len(registrations) == 32593
    assert len({(each.student.number, each.course_id) for each in registrations}) == 32593
    assert sum(each.unregistered is not None for each in registrations) == 10072
    assert oulad.FILE.stat().st_size < 400_000
    # Of the CSV that pack_oulad.pack() makes from the original tables.
    assert hashlib.sha256(gzip.decompress(oulad.FILE.read_bytes())).hexdigest() == (
        "562c6d645de3909b8f82f1b97dcef987e5cea4e685fb498387f9fdcbd3122ab2"
    )


def test_students_map_to_the_profile_fields_of_2012(registrations: list[Registration]) -> None:
    students = {each.student.number: each.student for each in registrations}
    assert {each.gender for each in students.values()} == {"m", "f"}
    assert {each.level_of_education for each in students.values()} == {
        "m",
        "b",
        "hs",
        "jhs",
        "none",
    }
    assert len({each.location for each in students.values()}) == 13
    student = students[11391]
    assert student.username == "student-11391"
    assert (student.gender, student.location) == ("m", "East Anglian Region")
    assert (student.level_of_education, student.year_of_birth) == ("b", 1953)
    assert json.loads(student.meta) == {
        "age_band": "55<=",
        "disability": False,
        "highest_education": "HE Qualification",
        "imd_band": "90-100%",
    }


def test_dates_are_days_from_the_presentations_start(registrations: list[Registration]) -> None:
    found = {(each.student.number, each.course_id): each for each in registrations}
    withdrawn = found[30268, CourseId("AAA/2013J")]
    assert withdrawn.registered == date(2013, 7, 1)  # 92 days before October 1st
    assert withdrawn.unregistered == date(2013, 10, 13)
    assert all(
        each.unregistered is None or each.registered <= each.unregistered for each in registrations
    )
    # 19 in the data, and those who have no date of registration and left before the start.
    assert sum(each.registered == each.unregistered for each in registrations) == 19 + 35


def test_days_come_in_order_and_bring_each_student_once(registrations: list[Registration]) -> None:
    days = list(oulad.days(registrations))
    assert [day.date for day in days] == sorted({day.date for day in days})
    newcomers = [student.number for day in days for student in day.newcomers]
    assert len(newcomers) == len(set(newcomers)) == 28785
    here: set[int] = set()
    for day in days:
        here |= {student.number for student in day.newcomers}
        assert here >= {each.student.number for each in day.registrations}
    assert sum(day.changes for day in days) == 32593 + 10072


INFO = (
    "code_module,code_presentation,id_student,gender,region,highest_education,imd_band,age_band,"
    "num_of_prev_attempts,studied_credits,disability,final_result\n"
)
REGISTRATION = "code_module,code_presentation,id_student,date_registration,date_unregistration\n"


def test_packing_the_original_tables(tmp_path: Path) -> None:
    (tmp_path / "studentInfo.csv").write_text(
        INFO
        + "BBB,2013J,7,F,Wales,Post Graduate Qualification,,35-55,1,60,Y,Fail\n"
        + "CCC,2013B,7,F,Scotland,Lower Than A Level,10-20,0-35,0,60,N,Withdrawn\n"
        + "CCC,2013B,5,M,Ireland,No Formal quals,10-20,0-35,0,60,N,Pass\n"
    )
    (tmp_path / "studentRegistration.csv").write_text(
        REGISTRATION + "BBB,2013J,7,,\nCCC,2013B,7,,-10\nCCC,2013B,5,-3,12\n"
    )
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(pack_oulad.pack(tmp_path))
    assert packed.read_bytes() == pack_oulad.pack(tmp_path)
    ireland, before, latest = oulad.read(packed)
    assert (ireland.student.number, ireland.course_id) == (5, "CCC/2013B")
    assert (ireland.registered, ireland.unregistered) == (date(2013, 1, 29), date(2013, 2, 13))
    # A student is as in the latest presentation, whatever the order of the rows.
    assert (before.course_id, latest.course_id) == ("CCC/2013B", "BBB/2013J")
    assert before.student == latest.student
    assert (latest.student.location, latest.student.level_of_education) == ("Wales", "m")
    assert latest.student.year_of_birth == 2013 - 45
    assert json.loads(latest.student.meta)["imd_band"] is None
    # No date of registration: the start, or the day of an earlier unregistration.
    assert (latest.registered, latest.unregistered) == (date(2013, 10, 1), None)
    assert before.registered == before.unregistered == date(2013, 1, 22)


def test_differences_are_an_error_that_names_the_courses() -> None:
    good = Comparison(CourseId("good"), 1, 1, 1, 0)
    assert differences([good]) is None
    error = differences([good, Comparison(CourseId("bad"), 1, 1, 2, 3)])
    assert isinstance(error, DemoError)
    assert "3 rows" in str(error)
    assert "'bad'" in str(error)
    assert "good" not in str(error)
