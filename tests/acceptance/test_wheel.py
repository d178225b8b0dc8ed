"""The wheel works outside the checkout: sql/ and migrations/ come along."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import Cluster

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it as pip would, beside nothing of the checkout."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = target.glob("pysync-*.whl")
    home = target / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    return home


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed package; -P and the working directory keep the checkout out."""
    program = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); import pysync;"
        f"assert pysync.__file__.startswith({str(installed)!r}), pysync.__file__;"
        "from pysync.cli import main; main()"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYSYNC_"))}
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=installed,
        env=env,
    )


@pytest.mark.newest
def test_the_wheel_migrates_a_portal(installed: Path, portal_server: Cluster) -> None:
    portal = portal_server.create()
    review = run(installed, "migrate", "portal", "--sql", "--portal", portal)
    assert review.returncode == 0, review.stderr
    assert "create or replace function course.user_updated" in review.stdout
    assert run(installed, "migrate", "--portal", portal).stdout == "portal: base -> p0001\n"
    portal_server.drop(portal)


@pytest.mark.newest
def test_the_wheel_has_what_the_demo_needs(installed: Path, major: int) -> None:
    assert (installed / "pysync" / "demo" / "ATTRIBUTION.md").exists()
    assert list((installed / "pysync" / "sql" / "portal").glob("*.sql"))
    assert list((installed / "pysync" / "migrations" / "course").glob("c*.py"))
