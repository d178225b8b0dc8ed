"""The SQL that lives in files: ``sql/`` is the present, ``migrations/`` the history."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from pysync.types import PORTAL_ROLES

_ROLES = Path("roles.sql")
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


def in_order(lineage: str, files: Mapping[Path, Path]) -> Iterator[str]:
    """Return the statements of files: by name, those in folders last, roles before all.

    To be given a function a role must be allowed to make one there, unless a superuser gives it: on
    a portal it is, between roles and the rest.

    :param files: the files by their paths in ``sql/``'s folder of the lineage.
    """
    names = sorted(files, key=lambda name: (name != _ROLES, len(name.parts) > 1, name))
    if _ROLES in files:
        yield from statements(files[names.pop(0)])
    if lineage == "portal":
        yield f"grant create on schema course, pysync, student to {', '.join(PORTAL_ROLES)}"
    for name in names:
        yield from statements(files[name])
    if lineage == "portal":
        yield f"revoke create on schema course, pysync, student from {', '.join(PORTAL_ROLES)}"


def split(script: str) -> list[str]:
    """Split a script as PostgreSQL's parser does, without semicolons and comments between."""
    import pglast  # most commands run no script

    return [script[piece] for piece in pglast.split(script, only_slices=True)]
