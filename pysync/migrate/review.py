"""Name the statements of a script that others wait for, or that rewrite a table."""

from typing import Any, Final

import pglast
from pglast.enums import AlterTableType, ConstrType, ObjectType
from pglast.stream import RawStream

EXCLUSIVE: Final = "ACCESS EXCLUSIVE: reads and writes wait"
_WRITES: Final = "SHARE ROW EXCLUSIVE: writes wait"

_SCANS: Final = {
    AlterTableType.AT_AlterColumnType: "rewrites the table, unless the types are stored alike",
    AlterTableType.AT_SetNotNull: "reads the whole table",
    AlterTableType.AT_SetLogged: "rewrites the table",
    AlterTableType.AT_SetUnLogged: "rewrites the table",
}
_CHECKED: Final = {
    ConstrType.CONSTR_CHECK: "reads the whole table, unless NOT VALID",
    ConstrType.CONSTR_FOREIGN: "reads the whole table, unless NOT VALID",
    ConstrType.CONSTR_UNIQUE: "builds an index",
    ConstrType.CONSTR_PRIMARY: "builds an index",
}


def commented(script: str) -> str:
    """Return a script with a comment before each statement that locks a table of before."""
    pieces = pglast.split(script, only_slices=True)
    parsed: list[Any] = [raw.stmt for raw in pglast.parse_sql(script)]
    made = {_name(each.relation) for each in parsed if type(each).__name__ == "CreateStmt"}
    done, end = "", 0
    for piece, each in zip(pieces, parsed, strict=True):
        done += script[end : piece.start]
        end = piece.start
        table, what = lock(each)
        if table and table not in made:
            done += f"-- locks {table}, {what}\n"
    return done + script[end:]


def lock(statement: Any) -> tuple[str, str]:
    """Return the table that a statement locks and how, with what takes long; or nothing."""
    match type(statement).__name__:
        case "AlterTableStmt" if statement.objtype == ObjectType.OBJECT_TABLE:
            notes = filter(None, map(_note, statement.cmds))
            return _name(statement.relation), "; ".join([EXCLUSIVE, *dict.fromkeys(notes)])
        case "IndexStmt" if not statement.concurrent:
            return _name(statement.relation), "SHARE: writes wait while the index is built"
        case "CreateTrigStmt":
            return _name(statement.relation), _WRITES
        case "LockStmt" | "TruncateStmt":
            return ", ".join(map(_name, statement.relations)), "as long as the transaction lasts"
        case "RenameStmt" | "AlterObjectSchemaStmt" if statement.relation is not None:
            return _name(statement.relation), EXCLUSIVE
        case "DropStmt" if statement.removeType == ObjectType.OBJECT_TABLE:
            names = (".".join(part.sval for part in each) for each in statement.objects)
            return ", ".join(names), EXCLUSIVE
        case "DropStmt" if statement.removeType == ObjectType.OBJECT_TRIGGER:
            return ".".join(part.sval for part in statement.objects[0][:-1]), EXCLUSIVE
    return "", ""


def _note(command: Any) -> str | None:
    """Return what of an ALTER TABLE takes as long as the table is large."""
    if command.subtype == AlterTableType.AT_AddConstraint:
        return None if command.def_.skip_validation else _CHECKED.get(command.def_.contype)
    if command.subtype == AlterTableType.AT_AddColumn:
        for each in command.def_.constraints or ():
            if each.contype in {ConstrType.CONSTR_IDENTITY, ConstrType.CONSTR_GENERATED}:
                return "rewrites the table"
            default = RawStream()(each.raw_expr) if each.raw_expr is not None else ""
            if "(" in default and default not in {"now()", "pg_catalog.now()"}:
                return "rewrites the table, if the default is volatile"
    return _SCANS.get(command.subtype)


def _name(relation: Any) -> str:
    return RawStream()(relation)
