"""Make the next revision of a lineage from what has changed in ``sql/``, and note releases.

How the next revision is made:

1. Change the models (``pysync/models/``) and the files in ``sql/``, which read as the present.
   Where these have places such as ``{user_columns}``, a column is declared in the models alone.
2. ``make revision LINEAGE=portal NAME=add_nickname`` (and ``LINEAGE=course`` if course databases
   change, too) renders ``script.py.mako`` into ``migrations/portal/p0002_add_nickname.py`` and
   copies the files of ``sql/portal/`` that differ from their newest frozen copies, and only those,
   with all places filled, into ``migrations/portal/p0002/``.
3. Fill in what the script leaves to you: columns and tables by ``op.add_column`` and the like, in
   ``upgrade`` and the reverse in ``downgrade``; what DO blocks make; a function whose result
   changes its type, which has to be dropped first. A new column is null or has a default, as has
   by now one that goes: courses receive rows without it for a while.
4. Change ``sql/`` again as often as needed. ``make revision LINEAGE=portal``, without a name,
   brings copies and lists of the newest revision up to date for as long as it isn't released.

The script's four lists are written by this tool and never by hand:

- ``DROPPED``: files that ``sql/`` has no longer, dropped or moved: older copies count no more.
- ``UP_DROPS``: statements for the functions, triggers, policies and views that these files and the
  predecessors of the changed ones made, and no file makes now. The upgrade runs them.
- ``DOWN_REPLAYS``: the predecessors' frozen copies of what was changed or dropped, by path. The
  downgrade replays them.
- ``DOWN_DROPS``: statements for what is new with this revision. The downgrade runs them.

``make release`` refuses while ``sql/`` and the newest frozen copies differ; then it notes the
checksum of every file of every revision in ``migrations/released.sha256``. From then on these files
stay as they are: databases have run them. A test fails when one has changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pglast
from alembic.script import ScriptDirectory
from pglast.enums import FunctionParameterMode
from pglast.stream import RawStream

from pysync.migrate.places import render

MIGRATIONS: Final = Path(__file__).resolve().parent
SQL: Final = MIGRATIONS.parent / "sql"
RELEASED: Final = MIGRATIONS / "released.sha256"
LINEAGES: Final = ("portal", "course")

_KINDS: Final = ("trigger", "policy", "view", "function", "procedure")
"""In the order in which they can be dropped."""
_OUT: Final = (
    FunctionParameterMode.FUNC_PARAM_OUT,
    FunctionParameterMode.FUNC_PARAM_TABLE,
)


def scripts(lineage: str) -> dict[str, Path]:
    """Return the revisions' scripts by id, the oldest first."""
    files = sorted((MIGRATIONS / lineage).glob("*.py"))
    return {file.stem.partition("_")[0]: file for file in files}


def declare() -> None:
    """Freeze the replicated columns as the models declare them."""
    from pysync.models.columns import default_of, type_name
    from pysync.models.course import CourseDatabaseBase
    from pysync.models.replicated import FROZEN, PUBLISHED
    from pysync.models.replicated import frozen as frozen_columns

    tables = CourseDatabaseBase.metadata.tables
    declared = {
        table.name: {
            column.name: (type_name(column), default_of(column))
            for column in tables[f"course.{table.name}"].columns
            if column.name not in table.own
        }
        for table in PUBLISHED
    }
    FROZEN.write_text(json.dumps(declared, indent=2) + "\n", encoding="utf-8")
    frozen_columns.cache_clear()


def living(lineage: str) -> dict[str, str]:
    """Return the text of each file of ``sql/`` as it is frozen, by path."""
    return {path: render(text) for path, text in _contents(SQL / lineage).items()}


def frozen(lineage: str, before: str | None = None) -> dict[str, Path]:
    """Return the newest frozen copy of each file by its path, without those dropped since.

    :param before: leave out this revision and what follows.
    """
    newest: dict[str, Path] = {}
    for revision, script in scripts(lineage).items():
        if revision == before:
            break
        folder = script.with_name(revision)
        newest |= {path: folder / path for path in _contents(folder)}
        for path in _dropped(script):
            newest.pop(path, None)
    return newest


def differences(lineage: str, before: str | None = None) -> tuple[dict[str, str], list[str]]:
    """Return the living files that differ from their frozen copies, and the paths that are gone."""
    now, then = living(lineage), frozen(lineage, before)
    changed = {
        path: text
        for path, text in now.items()
        if path not in then or then[path].read_text(encoding="utf-8") != text
    }
    return changed, sorted(then.keys() - now.keys())


def revise(lineage: str, name: str | None) -> Path:
    """Make a revision, or without a name refresh the newest one; return its script."""
    declare()
    known = scripts(lineage)
    newest = [*known][-1]
    if name is None:
        if any(f"{lineage}/{newest}" in path for path in noted()):
            sys.exit(f"{newest} is released: give the next revision a name, NAME=…")
        script = known[newest]
    else:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            sys.exit(f"'{name}' is no name: use lower-case letters, digits and underscores")
        newest = f"{newest[0]}{int(newest[1:]) + 1:04}"
        alembic = ScriptDirectory(
            str(MIGRATIONS),
            version_locations=[str(MIGRATIONS / lineage)],
            messaging_opts={"quiet": True},
        )
        made = alembic.generate_revision(newest, name.replace("_", " ").capitalize())
        script = Path(made.path) if made else sys.exit(f"revision {newest} couldn't be made")
        script = script.rename(script.with_name(f"{newest}_{name}.py"))
    changed, gone = differences(lineage, before=newest)
    folder = script.with_name(newest)
    shutil.rmtree(folder, ignore_errors=True)
    for path, text in changed.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    then = frozen(lineage, before=newest)
    replaced = sorted(then.keys() & changed.keys() | {*gone}, key=lambda p: (p.count("/"), p))
    made_before = drops(then[path].read_text(encoding="utf-8") for path in replaced)
    made_now = drops(changed.values())
    _write_lists(
        script,
        DROPPED=gone,
        UP_DROPS=[drop for drop in made_before if drop not in made_now],
        DOWN_REPLAYS=[str(then[path].relative_to(MIGRATIONS / lineage)) for path in replaced],
        DOWN_DROPS=[drop for drop in made_now if drop not in made_before],
    )
    if lineage == "course":
        _write_whole()
    return script


def _write_whole() -> None:
    """Write all revisions of courses' databases as the one script that a new database runs."""
    from pysync.migrate.lineage import COURSE
    from pysync.migrate.run import fingerprint
    from pysync.migrate.stepwise import from_nothing

    script = f"-- A new course database; made of revisions {fingerprint(COURSE)}\n"
    (MIGRATIONS / "course.sql").write_text(script + from_nothing(COURSE), encoding="utf-8")


def drops(texts: Iterable[str]) -> list[str]:
    """Return the statements that drop what SQL texts make, in an order in which they can run."""
    found = set()
    made: Iterable[Any] = (raw.stmt for text in texts for raw in pglast.parse_sql(text))
    for each in made:
        match type(each).__name__:
            case "CreateFunctionStmt":
                name = ".".join(part.sval for part in each.funcname)
                types = (
                    RawStream()(p.argType) for p in each.parameters or () if p.mode not in _OUT
                )
                kind = "procedure" if each.is_procedure else "function"
                found.add((kind, f"{name}({', '.join(types)})"))
            case "ViewStmt":
                found.add(("view", RawStream()(each.view)))
            case "CreateTrigStmt":
                found.add(("trigger", f"{each.trigname} on {RawStream()(each.relation)}"))
            case "CreatePolicyStmt":
                found.add(("policy", f"{each.policy_name} on {RawStream()(each.table)}"))
    ordered = sorted(found, key=lambda each: (_KINDS.index(each[0]), each[1]))
    return [f"drop {kind} if exists {what}" for kind, what in ordered]


def noted() -> dict[str, str]:
    """Return the released files' checksums by path."""
    if not RELEASED.exists():
        return {}
    lines = RELEASED.read_text(encoding="utf-8").splitlines()
    return {path: checksum for checksum, _, path in (line.partition("  ") for line in lines)}


def altered() -> list[str]:
    """Return the files of released revisions that aren't as they were released."""
    released, now = noted(), checksums()
    revisions = {_revision(path) for path in released}
    return sorted(
        path
        for path in released.keys() | now.keys()
        if _revision(path) in revisions and released.get(path) != now.get(path)
    )


def checksums() -> dict[str, str]:
    """Return the checksum of each file of each revision."""
    return {
        str(file.relative_to(MIGRATIONS)): hashlib.sha256(file.read_bytes()).hexdigest()
        for lineage in LINEAGES
        for file in sorted((MIGRATIONS / lineage).rglob("*"))
        if file.suffix in (".py", ".sql")
    }


def release() -> None:
    """Note the checksums of what is released now."""
    for lineage in LINEAGES:
        changed, gone = differences(lineage)
        if paths := sorted([*changed, *gone]):
            sys.exit(
                f"sql/{lineage}/ and its newest frozen copies differ ({', '.join(paths)}): "
                f"run 'make revision LINEAGE={lineage}' first"
            )
    if paths := altered():
        sys.exit(f"released files have changed ({', '.join(paths)}): restore them")
    lines = [f"{checksum}  {path}\n" for path, checksum in checksums().items()]
    RELEASED.write_text("".join(lines), encoding="utf-8")


def _contents(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text(encoding="utf-8")
        for file in sorted(folder.rglob("*.sql"))
    }


def _revision(path: str) -> tuple[str, str]:
    """Return lineage and revision of a file of a revision."""
    lineage, _, rest = path.partition("/")
    return lineage, re.split(r"[_/]", rest)[0]


def _dropped(script: Path) -> list[str]:
    module = ast.parse(script.read_text(encoding="utf-8"))
    lists = {
        ast.unparse(each.target): each for each in module.body if isinstance(each, ast.AnnAssign)
    }
    value = lists["DROPPED"].value if "DROPPED" in lists else None
    return ast.literal_eval(value) if value else []


def _write_lists(script: Path, **lists: list[str]) -> None:
    text = script.read_text(encoding="utf-8")
    for name, items in lists.items():
        lines = "".join(f"    {json.dumps(item)},\n" for item in items)
        head, _, rest = text.partition(f"\n{name}: list[str] = [")
        # The first revision has no predecessors, and no lists.
        if rest:
            tail = re.sub(r"\A.*?\]$", "", rest, count=1, flags=re.MULTILINE | re.DOTALL)
            text = f"{head}\n{name}: list[str] = [{lines and chr(10)}{lines}]{tail}"
    script.write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Do what the Makefile's target says."""
    match arguments:
        case ["revision", lineage, *name] if lineage in LINEAGES and len(name) <= 1:
            script = revise(lineage, name[0] if name else None)
            sys.stdout.write(f"{script.relative_to(MIGRATIONS.parent)}\n")
        case ["release"]:
            release()
        case _:
            sys.exit("usage: make revision LINEAGE=portal|course [NAME=add_nickname]")


if __name__ == "__main__":
    main(sys.argv[1:])
