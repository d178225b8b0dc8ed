"""The SQL that lives in files: ``sql/`` is the present, ``migrations/`` the history."""

from functools import cache
from pathlib import Path

import pglast

_PACKAGE = Path(__file__).parent.parent


@cache
def folder(name: str) -> Path:
    """Return ``sql`` or ``migrations``: inside the package in a wheel, beside it in a checkout."""
    for parent in (_PACKAGE, _PACKAGE.parent):
        if (parent / name).is_dir():
            return parent / name
    raise FileNotFoundError(f"folder '{name}' is missing from the installation of pysync")


def frozen(lineage: str) -> dict[str, Path]:
    """Return the newest frozen copy of each file of a lineage by the living file's path."""
    revisions = sorted(path for path in (folder("migrations") / lineage).iterdir() if path.is_dir())
    return {
        str(file.relative_to(revision)): file
        for revision in revisions
        for file in revision.rglob("*.sql")
    }


def statements(file: Path) -> list[str]:
    """Return the statements of a file, as :func:`split` does."""
    return split(file.read_text(encoding="utf-8"))


def split(script: str) -> list[str]:
    """Split a script as PostgreSQL's parser does, without semicolons and comments between."""
    return [script[piece] for piece in pglast.split(script, only_slices=True)]
