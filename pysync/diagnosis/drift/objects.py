"""A database's revision, and what was recorded of its objects when they were made and is now."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg import errors

from pysync.db.catalog import quoted_name
from pysync.db.connections import Connection
from pysync.findings import ON_PORTAL, Finding, run
from pysync.migrate import Lineage, current_revision, head_revision
from pysync.migrate.installed import Difference, differences
from pysync.texts import Text, quoted

_ENABLED: Final = {
    "D": "is disabled",
    "R": "fires for replication only",
    "A": "fires for replication, too",
}
_ROW_SECURITY: Final = {
    ("row security", "on"): "enable",
    ("row security", "off"): "disable",
    ("row security of owners", "on"): "force",
    ("row security of owners", "off"): "no force",
}
_OF_ITS_OWN: Final = frozenset({"enabled", "owner", "public", "granted"}).union(
    fact for fact, _ in _ROW_SECURITY
)
"""Facts that are told, and mended, one by one."""

_ALTERED: Final = {"function": "routine", "view": "table"}
"""How ``alter`` and ``revoke`` call what goes by another name."""

_CONSEQUENCES: Final = {
    "policy": ": roles of courses may read what isn't theirs, or not what is",
    "course.this_course_id": ": rows of other courses would be let in",
    "pysync_this_course": ": rows of other courses would be let in",
}


@dataclass(frozen=True)
class Compared:
    """What differs of a course database's replicated tables, and of all else that was made there.

    :param objects: ``None`` if our role may not read what was recorded.
    """

    tables: list[Finding] = field(default_factory=list)
    objects: list[Finding] | None = None

    @property
    def unaltered(self) -> bool:
        """Return whether it is known that nothing differs."""
        return not self.tables and self.objects == []


def revision_findings(
    connection: Connection,
    lineage: Lineage,
    subject: str,
    command: str,
    current: str | None = None,
) -> list[Finding]:
    """Compare a database's revision with the newest of its lineage.

    :param subject: the database in words.
    :param command: what migrates it.
    :param current: its revision, if it has said so.
    """
    newest = head_revision(lineage)
    current = current or current_revision(connection, lineage)
    cause = f"is at revision {current or 'base'}, this pysync needs {newest}"
    remedy = f"run '{command}', or install a newer pysync if it doesn't know that revision"
    return [] if current == newest else [Finding(subject, cause, remedy)]


def object_findings(
    connection: Connection, lineage: Lineage, where: str, reinstall: str
) -> list[Finding] | None:
    """Compare what revisions made with what is there.

    :param where: the database in words, such as ``on the portal``.
    :param reinstall: the command that makes anew what lies in files.
    :returns: what differs; ``None`` for a role that may not read what was recorded.
    """
    with suppress(errors.InsufficientPrivilege):
        return [
            finding
            for difference in differences(connection, lineage)
            for finding in _findings(difference, where, f"run '{reinstall}'")
        ]
    return None


def _findings(found: Difference, where: str, reinstall: str) -> Iterator[Finding]:
    subject = _subject(found)
    consequence = _CONSEQUENCES.get(found.name) or _CONSEQUENCES.get(found.kind, "")
    if found.present is None:
        yield Finding(subject, f"is missing {where}{consequence}", _remedy(found, where, reinstall))
        return
    if found.recorded is None:
        yield Finding(subject, f"was added {where}{consequence}", run(_drop(found), where))
        return
    changed = [
        (fact, then, found.present.get(fact))
        for fact, then in found.recorded.items()
        if then != found.present.get(fact)
    ]
    rest = [
        f"{fact} is {_shown(now)} rather than {_shown(then)}"
        for fact, then, now in changed
        if fact not in {*_OF_ITS_OWN, "body"}
    ]
    if rest or all(fact not in _OF_ITS_OWN for fact, *_ in changed):
        cause = f"was altered {where}{consequence}" + (f" ({'; '.join(rest)})" if rest else "")
        yield Finding(subject, cause, _remedy(found, where, reinstall))
    for fact, then, now in changed:
        if fact in _OF_ITS_OWN and (told := _told(found, fact, then, now)):
            cause, statement, afterwards = told
            remedy = run(statement, where) if statement else reinstall
            if afterwards and where == ON_PORTAL:
                remedy += Text(afterwards)
            yield Finding(subject, f"{cause} {where}", remedy)


def _shown(value: Any) -> str:
    """Return what a catalog says; texts may be somebody else's."""
    return str(value) if isinstance(value, bool | None) else quoted(str(value))


def _told(found: Difference, fact: str, then: Any, now: Any) -> tuple[str, str, str] | None:
    """Return what is wrong with one fact, the statement that mends it, and what then is due."""
    name = f"{_ALTERED.get(found.kind, found.kind)} {found.name}"
    match fact:
        case "enabled":
            statement = f"alter table {found.relation} enable trigger {quoted_name(found.name)}"
            return _ENABLED[now], statement, "; then 'pysync rebuild' for what was missed"
        case "owner":
            then, now = then or found.installer, now or found.installer
            cause = f"belongs to role '{now}' rather than '{then}'"
            return cause, f"alter {name} owner to {quoted_name(then)}", ""
        case "public" if more := ", ".join(sorted({*now} - {*then})):
            return f"grants {more} to PUBLIC", f"revoke {more} on {name} from public", ""
        case "granted" if less := ", ".join(sorted({*then} - {*(now or ())})):
            return f"doesn't grant {less}", "", ""
        case "public" | "granted":
            return None
    statement = f"alter table {found.name} {_ROW_SECURITY[fact, then]} row level security"
    return f"has {fact} {now} rather than {then}", statement, ""


def _subject(found: Difference) -> str:
    if not found.relation:
        return f"{found.kind} {found.name}"
    return f"{found.kind} '{found.name}' on {found.relation}"


def _remedy(found: Difference, where: str, reinstall: str) -> str:
    """Return what makes an object as it was."""
    alter, name = f"alter table {found.relation}", quoted_name(found.name)
    facts = found.recorded or {}
    match found.kind:
        case "schema" | "table":
            return f"restore it {where} from a backup"
        case "column":
            default = f"default {found.definition}" if found.definition else ""
            if found.present is None:
                null = "" if facts["nullable"] else " not null"
                column = f"{name} {facts['type']} {default}".rstrip() + null
                return run(f"{alter} add column {column}", where)
            changes = []
            if facts["type"] != found.present["type"]:
                changes.append(f"type {facts['type']}")
            if facts["nullable"] != found.present["nullable"]:
                changes.append("drop not null" if facts["nullable"] else "set not null")
            if not changes:
                changes.append(f"set {default}" if default else "drop default")
            return run("; ".join(f"{alter} alter column {name} {each}" for each in changes), where)
        case "constraint":
            statement = f"{alter} add constraint {name} {found.definition}"
        case "index":
            statement = str(found.definition)
        case _:
            return reinstall
    return run(statement if found.present is None else f"{_drop(found)}; {statement}", where)


def _drop(found: Difference) -> str:
    name = quoted_name(found.name)
    match found.kind:
        case "constraint":
            return f"alter table {found.relation} drop constraint {name}"
        case "index":
            return f"drop index {found.relation.partition('.')[0]}.{name}"
    return f"drop {found.kind} {name} on {found.relation}"
