"""The built wheel, installed where no checkout is: sql/ and migrations/ came along."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import psycopg
import pytest

import pysync
from pysync.migrate import head_revision
from pysync.migrate.lineage import COURSE, PORTAL
from tests.acceptance.test_cli_process import environment, footprint
from tests.support import Site, assert_live_rows, enroll, insert_user

pytestmark = pytest.mark.newest("which files a wheel holds")

CHECKOUT = Path(pysync.__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
            *("--outdir", str(folder), str(CHECKOUT)),
        ],
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the ``pysync`` of a fresh virtual environment; only dependencies are shared."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(python)),
            *("install", "--quiet", "--no-deps", "--no-index", str(wheel)),
        ],
        check=True,
        capture_output=True,
    )
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # A path in a .pth file is searched, its own .pth files (the checkout's) are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin" / "pysync"


def run(program: Path, *arguments: str, portal: str | None = None) -> str:
    result = subprocess.run(
        [program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env=environment(portal),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_wheel_holds_what_the_checkout_does(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder, inside in (
        ("pysync", "pysync"),
        ("sql", "pysync/sql"),
        ("migrations", "pysync/migrations"),
    ):
        for path in (CHECKOUT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{inside}/{path.relative_to(CHECKOUT / folder)}" in names
    assert not [name for name in names if "tests" in name.split("/")]
    assert "pysync/py.typed" in names


def test_the_installed_wheel_does_the_whole_job(installed: Path, site: Site) -> None:
    assert run(installed, "--version") == f"pysync {pysync.__version__}\n"
    where = subprocess.run(
        [installed.with_name("python"), "-c", "import pysync; print(pysync.__file__)"],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
    ).stdout
    assert where.startswith(str(installed.parent.parent))

    portal = site.new_database(site.portal_server)
    script = run(installed, "migrate", "--sql", portal=portal)
    assert run(installed, "migrate", portal=portal) == f"portal: base -> {head_revision(PORTAL)}\n"
    twin = site.new_database(site.portal_server)
    with psycopg.connect(twin, autocommit=True) as connection:
        connection.execute(script.encode())
    assert footprint(twin) == footprint(portal)

    site.databases["A"] = site.new_database()
    enroll(site, insert_user(site, "ada"), "A")
    assert run(installed, "course", "add", "A", site.databases["A"], portal=site.portal) == (
        "course 'A' added: 1 users there\n"
    )
    run(installed, "wait", "A", portal=site.portal)
    assert_live_rows(site, "A")
    assert head_revision(COURSE) in run(installed, "migrate", "status", portal=site.portal)
