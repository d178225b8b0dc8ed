"""``pysync demo``."""

import os
import shlex
import shutil
import signal
import sys
from dataclasses import astuple
from typing import Annotated, Final

import typer

from pysync.cli.app import INTERRUPTED
from pysync.cli.output import Format, print_rows, say, say_aside, say_lines, steps
from pysync.demo import Report, differences, oulad, run
from pysync.demo.site import Site
from pysync.types import CourseId

_GUIDE_COURSE: Final = CourseId("AAA/2013J")
_GUIDE_STUDENT: Final = "student-28400"
"""Somebody who stayed in that course."""


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the servers running, to look around.")
    ] = False,
) -> None:
    """Replay a university's registrations on its own servers.

    Starts two PostgreSQL servers (a portal, and one for 22 courses), replays what 28,785 students
    did while replication runs, compares every row, and measures how soon a change is visible.
    Everything is stopped and removed afterwards, unless --keep is given.
    """
    for name in list(os.environ):
        # libpq's variables (PGSSLMODE, PGOPTIONS, …) are about somebody else's servers.
        if name.startswith("PG") and not name.startswith("PG_"):
            del os.environ[name]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with steps() as progress, run(progress, keep=keep) as report:
            pass
    except KeyboardInterrupt:
        say_aside("pysync: demo interrupted; its servers are stopped and their folder is removed")
        sys.exit(INTERRUPTED)
    _print_report(report)
    if keep:
        _print_guide(report.site)
    else:
        say("Run 'pysync demo --keep' to look around with psql.")
    if error := differences(report.comparisons):
        raise error


def _print_report(report: Report) -> None:
    courses, counts = report.comparisons, report.counts
    say_lines(
        f"Two servers and {len(courses)} courses set up in {report.setup_seconds:.1f} s.\n"
        f"{counts.registrations:,} registrations and {counts.unregistrations:,} unregistrations "
        f"of {counts.students:,} students\n"
        f"replayed in {report.replay_seconds:.1f} s; all courses had everything "
        f"{report.catch_up_seconds:.1f} s later."
    )
    numbers = ("enrolled on portal", "in course", "users there", "rows that differ")
    rows = [astuple(each) for each in courses]
    total = ("total", *map(sum, list(zip(*rows, strict=True))[1:]))
    print_rows(Format.TABLE, {}, ("course", *numbers), rows, right=numbers, total=total)
    done = report.examination
    errors = "\n".join(f"  {error.field}: {error.message}" for error in done.errors)
    say_lines(
        f"A registration at a test center: the form of '{done.student}' has {len(done.errors)} "
        f"errors:\n{errors}\n"
        f"Corrected, it makes candidate {done.client_candidate_id}; the registration "
        f"{done.client_authorization_id}\nis {', then '.join(done.states)}.\n\n"
        "Users there are all who ever registered: those who left stay as frozen copies.\n"
        f"Commit to visible, {len(report.latencies_seconds)} single changes: "
        f"p50 {_percentile(report, 50):.2f} ms, p99 {_percentile(report, 99):.2f} ms.\n"
        "The servers run without fsync: they are made to be thrown away.\n"
        f"Data: {oulad.CREDIT}."
    )


def _percentile(report: Report, percent: int) -> float:
    """Return a percentile of the latencies by nearest rank, in milliseconds."""
    ordered = report.latencies_seconds
    return ordered[max(-(-len(ordered) * percent // 100) - 1, 0)] * 1000


def _print_guide(site: Site) -> None:
    pysync = "pysync" if shutil.which("pysync") else f"{shlex.quote(sys.executable)} -m pysync"
    say_lines(
        f"""
The servers are running; data and logs are in {site.folder}.

For your shell (the other databases are called like their courses, too):
  PSQL={shlex.quote(str(site.portal_server.installation.bindir / "psql"))}
  COURSE={shlex.quote(site.databases[_GUIDE_COURSE])}
  export PYSYNC_PORTAL={shlex.quote(site.portal)}

Change a student on the portal, and see it in the course:
  "$PSQL" "$PYSYNC_PORTAL" -c "update auth_user set first_name = 'Ada'
    where username = '{_GUIDE_STUDENT}'"
  "$PSQL" "$COURSE" -c "select id, username, first_name from auth_user
    where first_name = 'Ada'"

How replication is:
  {pysync} status

Stop the servers and remove the folder:
  sh {shlex.quote(str(site.stop_script))}"""  # noqa: S608 - text for people
    )
