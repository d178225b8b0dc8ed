"""Every function is described, closed to PUBLIC, and looks nothing up through a search path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pglast
import psycopg
import pytest
from pglast import ast, enums

from pysync.db.sql_files import folder
from pysync.migrate import Lineage
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.migrate.places import render
from pysync.types import PORTAL_ROLES

pytestmark = pytest.mark.every_major("catalogs as each version fills them")

FILES = [
    pytest.param(file, id=f"{name}-{file.stem}")
    for name in ("portal", "course")
    for file in sorted((folder("sql") / name).rglob("*.sql"))
]

INLINED = {"as_text", "counts", "unless_gone"}
"""Functions that can't have settings, which would keep them from being part of what calls them."""

READS_TABLES_OF_OTHERS = (
    r"\b(from|join|update|into|using)\s+"
    r"(public\.|new_rows|old_rows|course\.(auth_user|auth_userprofile|student_courseenrollment)\b)"
)

Signature = tuple[tuple[str, ...], tuple[str, ...]]


def type_name(type_: ast.TypeName) -> str:
    return name_of(type_.names)[-1] + "[]" * len(type_.arrayBounds or ())


def name_of(parts: Any) -> tuple[str, ...]:
    return tuple(str(part.sval) for part in parts)


def declared(statement: ast.CreateFunctionStmt) -> Signature:
    inputs = {
        enums.FunctionParameterMode.FUNC_PARAM_IN,
        enums.FunctionParameterMode.FUNC_PARAM_DEFAULT,
    }
    arguments = tuple(
        type_name(parameter.argType)
        for parameter in statement.parameters or ()
        if parameter.mode in inputs
    )
    return name_of(statement.funcname), arguments


def meant(target: ast.ObjectWithArgs) -> Signature:
    return name_of(target.objname), tuple(map(type_name, target.objargs or ()))


def pinned_search_path(statement: ast.CreateFunctionStmt) -> str | None:
    for option in statement.options or ():
        setting = option.arg
        if isinstance(setting, ast.VariableSetStmt) and setting.name == "search_path":
            return ", ".join(each.val.sval for each in setting.args or ())
    return None


@pytest.mark.parametrize("file", FILES)
def test_a_file_can_be_run_in_a_database_of_any_encoding(file: Path) -> None:
    assert file.read_bytes().isascii()


@pytest.mark.parametrize("file", FILES)
def test_a_function_has_its_comment_and_revoke_beside_it(file: Path) -> None:
    tree = [raw.stmt for raw in pglast.parse_sql(render(file.read_text(encoding="utf-8")))]
    functions = [each for each in tree if isinstance(each, ast.CreateFunctionStmt)]
    commented = [
        meant(each.object)
        for each in tree
        if isinstance(each, ast.CommentStmt) and isinstance(each.object, ast.ObjectWithArgs)
    ]
    closed = [
        meant(target)
        for each in tree
        if isinstance(each, ast.GrantStmt)
        and not each.is_grant
        and each.privileges is None
        and [g.roletype for g in each.grantees or ()] == [enums.RoleSpecType.ROLESPEC_PUBLIC]
        for target in each.objects or ()
        if isinstance(target, ast.ObjectWithArgs)
    ]
    for function in functions:
        assert function.replace, "say 'create or replace': the file must be safe to run twice"
        # Unless it is named, last, the temporary schema comes first for types.
        pinned = pinned_search_path(function)
        if declared(function)[0][-1] in INLINED:
            continue
        assert pinned == "pg_catalog, pg_temp", "add 'set search_path = pg_catalog, pg_temp'"
    signatures = [declared(each) for each in functions]
    assert signatures == commented, "add 'comment on function …' with the same arguments"
    assert signatures == closed, "add 'revoke all on function … from public'"


@pytest.mark.parametrize("file", FILES)
def test_a_column_of_a_sites_may_be_called_as_a_variable_of_ours(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    if "language plpgsql" in text and re.search(READS_TABLES_OF_OTHERS, text):
        assert "\n#variable_conflict " in text, (
            f"write '#variable_conflict use_variable' after 'as $$' in {file.name}: it reads a table "
            "to which others add columns of any name"
        )


def test_the_convention_test_reads_functions() -> None:
    """The test above passes over files without functions: at least these have one."""
    names = {str(parameter.id) for parameter in FILES}
    assert {"portal-mark", "portal-user_updated", "course-wait_for"} <= names


def test_functions_are_described_closed_and_pinned_in_the_catalog(
    lineage: Lineage, migrated: str
) -> None:
    with psycopg.connect(migrated, autocommit=True) as connection:
        functions = connection.execute(
            "select oid::regprocedure::text, obj_description(oid, 'pg_proc'), proconfig,"
            " exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner)))"
            "          where grantee = 0),"
            " case when prosecdef then proowner::regrole::text end"
            " from pg_proc where pronamespace in"
            " (select oid from pg_namespace where nspname in ('pysync', 'course', 'student'))"
        ).fetchall()
        relations_open_to_public = connection.execute(
            "select relname from pg_class"
            " where relnamespace in"
            "   (select oid from pg_namespace where nspname in ('pysync', 'course', 'student'))"
            " and exists (select from aclexplode(relacl) where grantee = 0)"
        ).fetchall()
        schemas_open_to_public = connection.execute(
            "select nspname from pg_namespace where nspname in ('pysync', 'course', 'student')"
            " and exists (select from aclexplode(nspacl) where grantee = 0)"
        ).fetchall()
    assert len(functions) >= {PORTAL.name: 20, COURSE.name: 2}[lineage.name]
    for name, description, settings, is_open, runs_as in functions:
        assert description, f"{name} has no comment"
        if name.partition("(")[0].rpartition(".")[2] not in INLINED:
            assert "search_path=pg_catalog, pg_temp" in (settings or []), f"{name}: pin its path"
        assert not is_open, f"{name} is open to PUBLIC"
        if lineage is PORTAL:
            assert runs_as in {None, *PORTAL_ROLES}, f"{name} isn't owned by one of {PORTAL_ROLES}"
    assert (relations_open_to_public, schemas_open_to_public) == ([], [])
