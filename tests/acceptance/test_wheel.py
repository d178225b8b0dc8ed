"""The built wheel, installed where no checkout is: sql/ and migrations/ came along."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from email import message_from_bytes
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


def outside(portal: str | None = None) -> dict[str, str]:
    """Return an environment in which the checkout isn't found."""
    return {k: v for k, v in environment(portal).items() if k != "PYTHONPATH"}


def run(program: Path, *arguments: str, portal: str | None = None) -> str:
    result = subprocess.run(
        [program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env=outside(portal),
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
    assert names >= {
        "pysync/py.typed",
        "pysync/README.md",
        "pysync/CHANGELOG.md",
        "pysync/students/README.md",
        "pysync/sql/README.md",
        "pysync/migrations/README.md",
    }


@pytest.mark.newest
def test_the_wheel_says_how_it_is_licensed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
        files = metadata.get_all("License-File", [])
        texts = [archive.read(f"{info}/licenses/{file}").decode() for file in files]
    assert metadata["License-Expression"] == "MIT AND CC-BY-4.0"
    assert [text.splitlines()[0] for text in texts] == ["MIT License", "# `oulad.csv.gz`"]
    assert str(metadata.get_payload()).startswith("# pysync\n")


def test_the_installed_wheel_does_the_whole_job(installed: Path, site: Site) -> None:
    assert run(installed, "--version") == f"pysync {pysync.__version__}\n"
    where = subprocess.run(
        [installed.with_name("python"), "-c", "import pysync; print(pysync.__file__)"],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
        env=outside(),
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
