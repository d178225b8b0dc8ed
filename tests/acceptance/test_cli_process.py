"""The command line as a process: what any command does with its output, whatever it is about.

Starting Python and importing everything costs most of a second. :func:`cli` and :func:`launch` fork
each process from one that has imported pysync's libraries already, so that a test per rule stays
affordable; :func:`tests.support.run_cli` starts from nothing, as a shell does.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import pysync
from pysync.demo.servers import Server, make_folder
from tests.conftest import COURSES, PORTALS, SETTINGS, SLOTS, prepared
from tests.support import (
    PORTAL_TEMPLATE,
    Cluster,
    Site,
    as_superuser,
    eventually,
    run_cli,
)

pytestmark = pytest.mark.newest("what the command line makes of its input, whatever the server")

ESCAPE = "\x1b"

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.acceptance.forkserver", __name__])


def environment(portal: str | None = None, **more: str) -> dict[str, str]:
    """Return the environment for a process: ours, without what names a server."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYSYNC_"))}
    return kept | ({"PYSYNC_PORTAL": portal} if portal is not None else {}) | more


class Fork:
    """The command line as a forked process, its output in pipes, used as a :class:`subprocess.Popen`."""

    def __init__(self, arguments: tuple[str, ...], env: dict[str, str]) -> None:
        (out, out_end), (err, err_end) = (_forks.Pipe(duplex=False) for _ in range(2))
        self._process = _forks.Process(target=_main, args=(arguments, env, out_end, err_end))
        self._process.start()
        for end in (out_end, err_end):
            end.close()
        self.stdout, self.stderr = (
            os.fdopen(os.dup(pipe.fileno()), encoding="utf-8") for pipe in (out, err)
        )
        for pipe in (out, err):
            pipe.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            pytest.fail(f"pysync is still running after {timeout:g} s")
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read both pipes to their ends, and wait; there is nothing more to read then."""
        if self.stdout.closed:
            return "", ""
        with ThreadPoolExecutor(2) as pool:
            out, err = pool.submit(self.stdout.read), pool.submit(self.stderr.read)
            try:
                read = out.result(timeout), err.result(timeout)
            except TimeoutError:
                self.kill()
                pytest.fail(f"pysync is still running after {timeout:g} s")
        self._close()
        self.wait()
        return read

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def _close(self) -> None:
        self.stdout.close()
        self.stderr.close()

    def __exit__(self, failure: object, *_: object) -> None:
        if failure is not None:
            self.kill()  # or a test that fails would wait for what it didn't end
        self._close()
        self.wait()


def _main(
    arguments: tuple[str, ...],
    env: dict[str, str],
    out: Connection,
    err: Connection,
    terminal: Connection | None = None,
) -> None:
    os.environ.clear()
    os.environ.update(env)
    if terminal is not None:
        os.dup2(terminal.fileno(), 0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - closed as it ends
    for pipe, name, descriptor in ((out, "stdout", 1), (err, "stderr", 2)):
        os.dup2(pipe.fileno(), descriptor)
        pipe.close()
        setattr(
            sys,
            name,
            open(  # noqa: SIM115 - closed as the process ends
                descriptor,
                "w",
                encoding="utf-8",
                errors="strict" if name == "stdout" else "backslashreplace",
                closefd=False,
            ),
        )
    sys.argv = ["pysync", *arguments]
    from pysync.cli import main

    main()


def cli(
    *arguments: str, portal: str | None = None, timeout: float = 60, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a forked process; see :func:`tests.support.run_cli`."""
    with Fork(arguments, environment(portal, **more)) as process:
        out, err = process.communicate(timeout)
        assert process.returncode is not None
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def launch(*arguments: str, portal: str) -> Fork:
    """Start the command line as a process that a test is going to interrupt."""
    return Fork(arguments, environment(portal))


def succeed(*arguments: str, portal: str | None = None, **more: str) -> str:
    """Run the command line, expect success, and return its standard output."""
    result = cli(*arguments, portal=portal, timeout=60, **more)
    assert result.returncode == 0, result.stderr
    return result.stdout


def read_json(*arguments: str, portal: str) -> dict[str, Any]:
    """Run a reading command and return its JSON document."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    asked = (*arguments[:end], "--format", "json", *arguments[end:])
    document = json.loads(succeed(*asked, portal=portal))
    assert isinstance(document, dict)
    return document


def courses_of(*arguments: str, portal: str) -> dict[str, dict[str, Any]]:
    """Return what a command says of each course, by course id."""
    return {each["course_id"]: each for each in read_json(*arguments, portal=portal)["courses"]}


def assert_refused(result: subprocess.CompletedProcess[str], *words: str, status: int = 1) -> None:
    """A line on standard error that names what is wrong and what to do; below it what to copy."""
    assert "Traceback" not in result.stderr, result.stderr
    assert result.stdout == ""
    first, *copied = result.stderr.splitlines()
    assert first.startswith("pysync: ")
    assert all(line.startswith("  ") for line in copied), result.stderr
    assert ";" in result.stderr, f"no remedy: {result.stderr}"
    for word in words:
        assert word in result.stderr, f"{word!r} isn't in: {result.stderr}"
    assert result.returncode == status


def footprint(*conninfos: str) -> list[object]:
    """Return whatever pysync could change in databases and their servers, for a comparison."""
    found: list[object] = []
    for conninfo in conninfos:
        with psycopg.connect(as_superuser(conninfo), autocommit=True) as connection:
            queries = (
                "select slot_name::text from pg_replication_slots order by 1",
                "select subname::text, subenabled, subconninfo from pg_subscription order by 1",
                "select roname from pg_replication_origin order by 1",
                "select pubname::text from pg_publication order by 1",
                "select nspname::text from pg_namespace where nspname !~ '^pg_' order by 1",
                "select c.oid::regclass::text, c.relkind, c.relacl::text from pg_class c"
                " where c.relnamespace::regnamespace::text in ('public', 'course', 'pysync')"
                " order by 1",
                "select oid::regprocedure::text from pg_proc"
                " where pronamespace::regnamespace::text in ('public', 'course', 'pysync')"
                " order by 1",
                "select setconfig from pg_db_role_setting"
                " where setdatabase = (select oid from pg_database"
                "                       where datname = current_database())",
            )
            found.extend((query, connection.execute(query).fetchall()) for query in queries)
            for table in ("pysync.course", "course.auth_user", "course.student_courseenrollment"):
                if connection.execute("select to_regclass(%s)", (table,)).fetchone() != (None,):
                    rows = connection.execute(f"select * from {table} order by 1, 2").fetchall()
                    found.append((table, rows))
    return found


@contextmanager
def own_servers(major: int, folder: Path, name: str, *course_ids: str) -> Iterator[Site]:
    """Give a portal and courses on servers that nobody else needs."""
    portal_server = OwnCluster.start(major, folder, f"{name}-p", PORTALS)
    course_server = OwnCluster.start(major, folder, f"{name}-c", COURSES)
    portal = portal_server.create(template=PORTAL_TEMPLATE)
    site = Site(portal_server, course_server, portal)
    for course_id in course_ids:
        site.add(course_id)
    yield site
    site.close_connections()
    for cluster in (portal_server, course_server):
        cluster.server.stop()


class OwnCluster(Cluster):
    """A server that a test may stop, freeze and kill."""

    def __init__(self, server: Server, major: int) -> None:
        self.server = server
        self.major = major
        self.granted = {}
        self._course_templates = set()
        self._session = None

    def __repr__(self) -> str:
        return f"OwnCluster({self.server.port})"

    def conninfo(self, dbname: str = "postgres", **parameters: Any) -> str:
        return make_conninfo(self.server.conninfo(dbname), **parameters)

    @classmethod
    def start(cls, major: int, folder: Path, name: str, holds: str = "") -> OwnCluster:
        """Start a server with the settings of the tests' other ones."""
        home = make_folder(folder / f"{name}-{major}")
        installation = prepared(major, home / "data", holds)
        settings = {**SETTINGS, **installation.replication_slots(SLOTS), "fsync": "off"}
        server = Server(installation, home, settings)
        server.start()
        cluster = cls(server, major)
        if holds == COURSES:
            cluster.has_course_templates()
        return cluster

    def course_template(self, course_id: str, *, granted: bool = False) -> str | None:
        """Return a database that the server's data came with, if it did."""
        name = super().course_template(course_id) if self._course_templates else None
        return None if granted else name

    def _stopped(self) -> list[int]:
        """Stop every process of the server (SIGSTOP), the postmaster first, and return them."""
        pid = int((self.server.data / "postmaster.pid").read_text().split()[0])
        # It could fork one more child that we don't know of, and that would go on.
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: _state(pid) in "TZ")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in map(int, children):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)
        return [pid, *map(int, children)]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have every process of the server do as a machine without answer does."""
        pids = self._stopped()
        try:
            yield
        finally:
            for each in pids:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server as a crash would (SIGKILL), and wait until it is gone."""
        pids = self._stopped()
        for each in pids:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        eventually(lambda: all(_state(each) == "Z" for each in pids))
        # Where no init reaps orphans, the dead postmaster stays a zombie and its lock file counts.
        (self.server.data / "postmaster.pid").unlink(missing_ok=True)


def _state(pid: int) -> str:
    """Return a process's state as /proc has it; ``Z``, a zombie, also when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def in_terminal(
    *arguments: str,
    portal: str | None = None,
    columns: int = 80,
    answer: str = "",
    fresh: bool = False,
    **more: str,
) -> tuple[int, str]:
    """Run the command line on a pseudo-terminal; returns its exit status and what it shows.

    :param fresh: start it from nothing, as a shell does.
    """
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = environment(portal, COLUMNS=str(columns), **more)
    process: Any
    if fresh:
        command = [sys.executable, "-m", "pysync", *arguments]
        process = subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, env=env
        )
    else:
        ends = [Connection(os.dup(follower)) for _ in range(3)]
        process = _forks.Process(target=_main, args=(arguments, env, *ends))
        process.start()
        for end in ends:
            end.close()
    os.close(follower)
    os.write(leader, answer.encode())
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # what Linux says once the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    if fresh:
        status = process.wait()
    else:
        process.join()
        status = process.exitcode
    return status, shown.decode().replace("\r\n", "\n")


COMMANDS = [
    (),
    ("migrate",),
    ("migrate", "all"),
    ("migrate", "portal"),
    ("migrate", "course"),
    ("migrate", "status"),
    ("course",),
    ("course", "add"),
    ("course", "remove"),
    ("course", "pause"),
    ("course", "resume"),
    ("course", "move"),
    ("course", "list"),
    ("resync",),
    ("guard",),
    ("erase",),
    ("serve",),
    ("status",),
    ("doctor",),
    ("wait",),
    ("verify",),
    ("repair",),
    ("rebuild",),
    ("demo",),
    ("migrate", "validate"),
    ("user",),
    ("user", "unique-id"),
    ("account",),
    ("account", "register"),
    ("group",),
    ("group", "add"),
    ("testcenter",),
    ("testcenter", "check"),
    ("testcenter", "register"),
    ("discussion",),
    ("discussion", "push"),
]


def test_version_is_the_packages() -> None:
    result = run_cli("--version")
    assert (result.returncode, result.stdout) == (0, f"pysync {pysync.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c) or "pysync")
def test_each_command_explains_itself(command: tuple[str, ...]) -> None:
    shown = succeed(*command, "--help")
    assert f"Usage: pysync {' '.join(command)}".strip() in shown
    assert ESCAPE not in shown


@pytest.fixture(scope="module")
def untouched(
    portal_server: Cluster, course_server: Cluster, portal_template: str
) -> Iterator[Site]:
    """A portal without courses, which stays so."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    yield site
    site.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("migrate", "nonsense"),
        ("course", "nonsense"),
        ("status", "--nonsense"),
        ("status", "--format", "xml"),
        ("course", "add", "A"),
        ("course", "remove"),
        ("wait",),
        ("wait", "A", "--timeout", "-1"),
        ("verify", "--jobs", "0"),
        ("repair",),
        ("wait", "A", "--timeout", "soon"),
        ("wait", "A", "B"),
        ("resync",),
        ("resync", "A", "--table", "pg_class"),
        ("guard", "--interval", "0"),
        ("erase",),
        ("migrate", "--sql", "portal"),
        ("migrate", "--to", "base", "portal"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...], untouched: Site) -> None:
    before = footprint(untouched.portal)
    result = cli(*arguments, portal=untouched.portal)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: pysync")
    assert "Traceback" not in result.stderr
    assert footprint(untouched.portal) == before


def test_the_portal_can_be_named_before_and_after_the_command(untouched: Site) -> None:
    for arguments in (
        ("--portal", untouched.portal, "status", "--format", "json"),
        ("status", "--format", "json", "--portal", untouched.portal),
    ):
        nowhere = "host=127.0.0.1 port=1 connect_timeout=2"
        assert json.loads(succeed(*arguments, portal=nowhere))["courses"] == []


@pytest.fixture(scope="module")
def crowded(portal_server: Cluster, course_server: Cluster, portal_template: str) -> Iterator[Site]:
    """A portal with courses whose ids are as long as ids get; their databases aren't reachable."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    register_unreachable(site, "MITx/6.002x/2012_Fall", "x" * 255, "[bold]A[/bold]", "курс 一")
    yield site
    site.close()


def register_unreachable(site: Site, *course_ids: str) -> None:
    """Register courses whose database nobody will ever reach."""
    for course_id in course_ids:
        site.execute(
            "insert into pysync.course (course_id, replication_name, conninfo, portal_conninfo,"
            " replication_role) values (%s, 'unused_' || md5(%s), %s, '', '')",
            course_id,
            course_id,
            "host=127.0.0.1 port=1 dbname=none",
        )


HEADINGS = {
    *("course", "state", "tables", "slot", "lag", "behind", "WAL kept", "errors"),
    *("database", "current", "head", "pending"),
}


@pytest.mark.parametrize("command", ["status", "migrate status"])
def test_tables_fit_a_terminal_of_80_columns(crowded: Site, command: str) -> None:
    status, shown = in_terminal(*command.split(), portal=crowded.portal, TERM="dumb")
    assert status == 0
    assert ESCAPE not in shown
    table = [line for line in shown.splitlines() if not re.match(r"\S", line)]
    assert max(map(len, table)) <= 80
    # Ids may be folded; a column too narrow for its own words would break them as well.
    heading = next(line for line in table if line.strip())
    assert set(re.split(r"\s{2,}", heading.strip())) <= HEADINGS
    if command == "status":
        assert shown.count(" unreachable ") == 4
    ids = "".join(line.split("  ")[0].strip() for line in table)
    assert "MITx/6.002x/2012_Fall[bold]A[/bold]" + "x" * 255 + "курс 一" in ids


@pytest.mark.parametrize("command", ["status", "course list", "migrate status"])
def test_output_in_a_pipe_is_whole(crowded: Site, command: str) -> None:
    lines = succeed(*command.split(), portal=crowded.portal, COLUMNS="40").splitlines()
    for course_id in ("x" * 255, "[bold]A[/bold]", "курс 一"):
        assert [line for line in lines if line.strip().startswith(f"{course_id}  ")]


def test_a_terminal_shows_errors_in_colour_and_a_dumb_one_does_not(site: Site) -> None:
    status, shown = in_terminal(
        "wait", "nope", portal=site.portal, fresh=True, TERM="xterm-256color"
    )
    assert status == 1
    assert shown.startswith(f"{ESCAPE}[31mpysync: course 'nope'")
    status, shown = in_terminal("wait", "nope", portal=site.portal, fresh=True, TERM="dumb")
    assert status == 1
    assert shown.startswith("pysync: course 'nope'")


def test_output_that_cannot_be_encoded_is_escaped(crowded: Site) -> None:
    result = run_cli("status", portal=crowded.portal, PYTHONIOENCODING="latin-1")
    assert "Traceback" not in result.stderr
    assert result.returncode == 0
    assert "MITx/6.002x/2012_Fall" in result.stdout


def test_a_closed_pipe_is_no_crash(site: Site) -> None:
    with launch("migrate", "portal", "--to", "base", "--sql", portal=site.portal) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_control_characters_of_an_id_do_not_reach_the_output(site: Site) -> None:
    register_unreachable(site, f"A{ESCAPE}[2JB\nC")
    assert ESCAPE not in succeed("status", portal=site.portal)
    assert ESCAPE not in cli("wait", f"{ESCAPE}[2J", portal=site.portal).stderr


def test_a_forked_process_says_what_a_fresh_one_says_and_in_a_pipe_both_are_plain(
    crowded: Site,
) -> None:
    for arguments in (("status",), ("wait", "nope"), ("migrate", "portal")):
        forked, fresh = (
            run(*arguments, portal=crowded.portal, TERM="xterm-256color") for run in (cli, run_cli)
        )
        assert fresh.stdout + fresh.stderr
        assert ESCAPE not in fresh.stdout + fresh.stderr
        assert (forked.returncode, forked.stdout, forked.stderr) == (
            fresh.returncode,
            fresh.stdout,
            fresh.stderr,
        )
