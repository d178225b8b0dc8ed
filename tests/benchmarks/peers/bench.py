"""Have the contenders carry user updates and enrollments in turns, and compare them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import ExitStack

from pysync.demo.servers import Installation, installations
from tests.benchmarks import pgbench
from tests.benchmarks.measure import PER_SECOND, Comparison, Effort, Row, interleave
from tests.benchmarks.pair import Say, Triggers, server_pair, set_triggers, tidy
from tests.benchmarks.peers.contenders import (
    COURSES,
    STEM,
    USERS,
    Contender,
    native,
    pglogical,
    pysync,
)
from tests.benchmarks.singles import enroll_variables, last_enrollment, take_back

MAJOR = 15
PACKAGE = "postgresql-15-pglogical"

_GOALS = {"native": (0.95, 0.9), "pglogical": (1.05, 1.1)}
"""At least how much of its rate: user updates, and enrollments."""


def measure(say: Say, effort: Effort) -> list[Row]:
    """Return rates until all courses have what was committed, beside each peer's."""
    installation = next((each for each in installations() if each.major == MAJOR), None)
    if installation is None:
        return [Row(f"beside peers: can't be had, PostgreSQL {MAJOR} isn't installed")]
    with ExitStack() as stack:
        peers = [native(stack.enter_context(server_pair(say, installation)), stack)]
        missing = _install_pglogical(installation, say)
        if not missing:
            preloaded = server_pair(say, installation, {"shared_preload_libraries": "pglogical"})
            peers.append(pglogical(stack.enter_context(preloaded), stack))
        ours = pysync(stack.enter_context(server_pair(say, installation)), stack)
        say("warming up")
        rows = _updates(ours, peers, effort) + _enrollments(ours, peers, effort)
    names = " and ".join(peer.name for peer in peers)
    about = (
        f"{names}, fed by the simplest triggers, and pysync on PostgreSQL {installation.version}"
    )
    rows.append(Row(f"{about}: contents at the end", target="all equal", met=True))
    return [*rows, *([Row(f"beside pglogical: can't be had, {missing}")] if missing else [])]


def _updates(ours: Contender, peers: list[Contender], effort: Effort) -> list[Row]:
    rates: dict[str, list[float]] = {each.name: [] for each in (ours, *peers)}

    def side(contender: Contender, *, warm: bool = False) -> None:
        begin = time.perf_counter()
        ran = pgbench.run(
            contender.pair.installation,
            contender.conninfo,
            "update_user",
            {"users": USERS},
            transactions=effort.carried,
        )
        contender.settle()
        if not warm:
            rates[contender.name].append(ran.transactions / (time.perf_counter() - begin))
        if len(rates[contender.name]) == effort.rounds:
            contender.check()
        tidy(contender.portal, *contender.databases)

    for contender in (ours, *peers):
        side(contender, warm=True)
    for done in interleave(
        effort.rounds, *(lambda each=each: side(each) for each in (*peers, ours))
    ):
        ours.pair.say(f"user updates beside peers: round {done} of {effort.rounds}")
    return [
        Comparison(
            f"user updates until 8 courses have them, beside {peer.name}",
            PER_SECOND,
            at_least=_GOALS[peer.name][0],
            beside=rates[peer.name],
            pysync=rates[ours.name],
        ).row()
        for peer in peers
    ]


def _enrollments(ours: Contender, peers: list[Contender], effort: Effort) -> list[Row]:
    rates: dict[str, list[float]] = {name: [] for name in (*_GOALS, ours.name, "roles")}
    last = {each.name: last_enrollment(each.portal) for each in (ours, *peers)}

    def side(contender: Contender, name: str, *, warm: bool = False) -> None:
        if contender is ours:
            set_triggers(ours.portal, Triggers.ALL if name == "roles" else Triggers.FAN_OUT)
        begin = time.perf_counter()
        ran = pgbench.run(
            contender.pair.installation,
            contender.conninfo,
            "enroll",
            enroll_variables(USERS, STEM, len(COURSES)),
            transactions=effort.carried // 2,
        )
        contender.settle()
        if not warm:
            rates[name].append(ran.transactions / (time.perf_counter() - begin))
        if len(rates[name]) == effort.rounds:
            contender.check()
        if contender is ours:
            take_back(ours.portal, last[ours.name])
            set_triggers(ours.portal, Triggers.FAN_OUT)
        else:
            contender.portal.execute(
                "delete from public.student_courseenrollment where id > %s", (last[name],)
            )
        contender.settle()
        tidy(contender.portal, *contender.databases)

    sides = [(peer, peer.name) for peer in peers] + [(ours, ours.name), (ours, "roles")]
    for contender, name in sides:
        side(contender, name, warm=True)
    for done in interleave(effort.rounds, *(lambda each=each: side(*each) for each in sides)):
        ours.pair.say(f"enrollments beside peers: round {done} of {effort.rounds}")
    return [
        Comparison(
            f"{what}, beside {peer.name}",
            PER_SECOND,
            at_least=_GOALS[peer.name][1],
            beside=rates[peer.name],
            pysync=rates[name],
        ).row()
        for peer in peers
        for name, what in (
            (ours.name, "enrollments until 8 courses have them"),
            ("roles", "      the same, giving discussion roles, too"),
        )
    ]


def _install_pglogical(installation: Installation, say: Say) -> str:
    """Have Debian's package installed; returns why it can't be had, or nothing."""
    library = installation.bindir.parent / "lib" / "pglogical.so"
    if library.exists():
        return ""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return f"package {PACKAGE} isn't installed"
    say(f"installing {PACKAGE}")
    ran = subprocess.run(
        ["apt-get", "install", "--yes", "--no-install-recommends", PACKAGE],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    if ran.returncode != 0 or not library.exists():
        return f"package {PACKAGE} can't be installed: {ran.stderr.strip().splitlines()[-1:]}"
    return ""
