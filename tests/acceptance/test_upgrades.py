"""Servers are restarted and upgraded while applications write; what pysync says mends the rest."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pysync.demo.servers import Server, identity, make_folder
from tests.acceptance.test_cli_process import OwnCluster, cli, own_servers, succeed
from tests.acceptance.test_connecting import shell_words
from tests.acceptance.test_crash import COURSES, assert_whole
from tests.acceptance.test_failover import advance, writing
from tests.conftest import INSTALLATIONS, SETTINGS, SLOTS, prepared
from tests.support import Cluster, Site, eventually

pytestmark = pytest.mark.newest("what older servers are upgraded to")

GOES_ALONG = 17
"""From which version on slots and subscriptions go along."""


def look(site: Site) -> dict[str, Any]:
    """Ask what an upgrade would take along, and what is to be done; its status says whether."""
    result = cli("upgrade", "check", "--format", "json", portal=site.portal)
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    kept = [each[which] for each in found["courses"] for which in ("slot", "subscription")]
    whole = False not in kept and not any(each["must"] for each in found["findings"])
    assert result.returncode == (0 if whole else 1)
    return found


def await_kept(site: Site, slot: bool, subscription: bool) -> None:
    """Wait until courses' slots would go along, and their subscriptions, or stay behind."""
    expected = [{"course_id": i, "slot": slot, "subscription": subscription} for i in COURSES]
    eventually(lambda: look(site)["courses"] == expected, 60)


def mend(site: Site) -> list[str]:
    """Run what is to be run until nothing is left; returns the commands, without what is ours."""
    ran: list[str] = []
    while findings := look(site)["findings"]:
        for command in findings[0]["commands"]:  # none while a course catches up
            assert command not in ran, findings[0]
            ran.append(command)
            words = shell_words(command)
            succeed(*words, *["--yes"] * (words[0] == "portal"), portal=site.portal)
    return ran


def upgrade(cluster: Cluster, major: int) -> None:
    """Upgrade a server to another version, as migrations/README.md says, at the same address."""
    assert isinstance(cluster, OwnCluster)
    old = cluster.server
    home = make_folder(old.folder.parent / f"{old.folder.name}-{major}")
    installation = prepared(major, home / "data")
    settings = {**SETTINGS, **installation.replication_slots(SLOTS), "fsync": "off"}
    new = Server(installation, home, settings, port=old.port)
    old.stop()
    new._run("pg_checksums", "--disable", "-D", new.data)  # as the old server has them
    for each in (old, new):
        with (each.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in each.settings.items())
    options: dict[str, str | Path] = {
        "--old-bindir": old.installation.bindir,
        "--new-bindir": installation.bindir,
        "--old-datadir": old.data,
        "--new-datadir": new.data,
        "--username": "postgres",
        "--socketdir": home,
    }
    words = [word for pair in options.items() for word in pair]
    ran = subprocess.run(
        [installation.bindir / "pg_upgrade", "--no-sync", *words],
        capture_output=True,
        check=False,
        text=True,
        cwd=home,
        **identity(),
    )
    assert ran.returncode == 0, ran.stdout
    new.start()
    cluster.server, cluster.major = new, major


@pytest.fixture(params=[15, GOES_ALONG])
def own_site(major: int, folder: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A portal and courses on servers of an older version that nobody else needs."""
    old: int = request.param
    if old not in INSTALLATIONS:
        pytest.skip(f"PostgreSQL {old} isn't there")
    with own_servers(old, folder, f"upgrade-{major}", *COURSES) as site:
        yield site


@pytest.mark.timeout(240)
def test_courses_go_on_after_a_restart_and_after_pg_upgrade(own_site: Site, major: int) -> None:
    site, servers = own_site, (own_site.portal_server, own_site.course_server)
    goes_along = site.portal_server.major >= GOES_ALONG
    with writing(site) as writers:
        # As for a minor release: no command.
        for cluster in servers:
            assert isinstance(cluster, OwnCluster)
            advance(writers)
            cluster.server.stop()
            cluster.server.start()
        site.wait()
        await_kept(site, goes_along, goes_along)

        upgrade(site.portal_server, major)
        advance(writers)
        if goes_along:
            site.wait()
        resyncs = [] if goes_along else ["pysync resync --all"]
        assert mend(site) == ["pysync portal claim", *resyncs, "pysync migrate"]
        advance(writers)
        await_kept(site, True, goes_along)

        upgrade(site.course_server, major)
        advance(writers)
        if goes_along:
            site.wait()
        ran = mend(site)
        # A move migrates, but where the course streams already there is nothing to move.
        assert [each.split()[1:4] for each in ran] == [
            *(["course", "move", each] for each in COURSES),
            *([["migrate"]] if goes_along else []),
        ]
        advance(writers)
    assert_whole(site, writers)
    await_kept(site, True, True)
    succeed("doctor", portal=site.portal)
