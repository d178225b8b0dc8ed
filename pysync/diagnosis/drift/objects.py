"""The functions and triggers that the SQL files declare, against those in a database."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pglast
from pglast import ast

from pysync.db.connections import Connection
from pysync.db.sql_files import frozen
from pysync.diagnosis.drift import trees
from pysync.findings import ON_PORTAL, Finding, run

_ENABLED: Final = "O"
_OFF: Final = {
    "D": "is disabled",
    "R": "fires for replication only",
    "A": "fires for replication, too",
}


@dataclass(frozen=True)
class Declared:
    """An object that a file declares; ``table`` of triggers, ``owner`` where the file says."""

    name: str
    file: Path
    tree: trees.Tree
    table: str | None = None
    owner: str | None = None


@dataclass(frozen=True)
class Declarations:
    """What the files of one lineage declare."""

    functions: dict[tuple[str, ...], Declared]
    triggers: dict[tuple[str, str], Declared]


@cache
def declarations(lineage: str) -> Declarations:
    """Read the newest frozen copies of a lineage's SQL files."""
    found = Declarations({}, {})
    for _, file in sorted(frozen(lineage).items()):
        statements = pglast.parse_sql(file.read_text(encoding="utf-8"))
        owners = {
            _name(each.stmt.object.objname): str(getattr(each.stmt.newowner, "rolename", None))
            for each in statements
            if isinstance(each.stmt, ast.AlterOwnerStmt)
            and isinstance(each.stmt.object, ast.ObjectWithArgs)
        }
        for each in statements:
            match each.stmt:
                case ast.CreateFunctionStmt() as node:
                    name = _name(node.funcname)
                    found.functions[trees.signature(node)] = Declared(
                        name,
                        file,
                        trees.function_of(node),
                        owner=owners.get(name),
                    )
                case ast.CreateTrigStmt() as node:
                    assert node.relation is not None and node.trigname  # noqa: S101, PT018
                    table = f"{node.relation.schemaname}.{node.relation.relname}"
                    found.triggers[table, node.trigname] = Declared(
                        node.trigname, file, trees.of(node), table=table
                    )
    return found


def _name(parts: tuple[Any, ...] | None) -> str:
    return ".".join(str(part.sval) for part in parts or ())


_FUNCTIONS: Final = """
select pg_catalog.pg_get_functiondef(p.oid),
       pg_catalog.pg_get_userbyid(p.proowner)::text
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 where n.nspname || '.' || p.proname = any (%s)
"""
_TRIGGERS: Final = """
select n.nspname || '.' || c.relname, t.tgname::text, t.tgenabled::text,
       pg_catalog.pg_get_triggerdef(t.oid)
  from pg_catalog.pg_trigger t
  join pg_catalog.pg_class c on c.oid = t.tgrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where not t.tgisinternal and n.nspname || '.' || c.relname = any (%s)
   and t.tgname like 'pysync\\_%%'
"""


def object_findings(connection: Connection, lineage: str, where: str) -> list[Finding]:
    """Compare functions and triggers with those of the SQL files.

    :param where: the database in words, such as ``on the portal``.
    """
    declared = declarations(lineage)
    names = sorted({name for name, *_ in declared.functions})
    functions = {
        trees.signature_of(definition): (definition, owner)
        for definition, owner in connection.execute(_FUNCTIONS, (names,)).fetchall()
    }
    tables = sorted({table for table, _ in declared.triggers})
    triggers = {
        (table, name): (enabled, definition)
        for table, name, enabled, definition in connection.execute(_TRIGGERS, (tables,)).fetchall()
    }
    findings = []
    for key, trigger in declared.triggers.items():
        if finding := _trigger_finding(trigger, triggers.get(key), where):
            findings.append(finding)
    for signature, function in declared.functions.items():
        if finding := _function_finding(function, functions.get(signature), where):
            findings.append(finding)
    return findings


def _trigger_finding(
    declared: Declared, found: tuple[str, str] | None, where: str
) -> Finding | None:
    subject = f"trigger '{declared.name}' on {declared.table}"
    if found is None:
        return Finding(subject, f"is missing {where}", _reinstall(declared, where))
    enabled, definition = found
    if enabled != _ENABLED:
        afterwards = "; then 'pysync rebuild' for what was missed" if where == ON_PORTAL else ""
        return Finding(
            subject,
            f"{_OFF.get(enabled, 'is not as it should be')} {where}",
            run(f"alter table {declared.table} enable trigger {declared.name}", where) + afterwards,
        )
    if trees.trigger(definition) != declared.tree:
        return Finding(subject, f"was altered {where}", _reinstall(declared, where))
    return None


def _function_finding(
    declared: Declared, found: tuple[str, str] | None, where: str
) -> Finding | None:
    subject = f"function {declared.name}()"
    if found is None:
        return Finding(subject, f"is missing {where}", _reinstall(declared, where))
    definition, owner = found
    if trees.function(definition) != declared.tree:
        return Finding(subject, f"was altered {where}", _reinstall(declared, where))
    if declared.owner and owner != declared.owner:
        return Finding(
            subject,
            f"belongs to role '{owner}' rather than '{declared.owner}' {where}",
            _reinstall(declared, where),
        )
    return None


def _reinstall(declared: Declared, where: str) -> str:
    return run(f"\\i {declared.file}", where)
