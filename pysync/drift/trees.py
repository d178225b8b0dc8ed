"""SQL as trees that are equal where PostgreSQL's own spelling differs from ours.

The server gives back expressions with casts, parentheses and ``ROW(…)`` spelled out, types under
their catalog names, and leaves out what is the default.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Any, Final

import pglast
from pglast import ast, enums

_IGNORED: Final = {
    "location",
    "stmt_location",
    "stmt_len",
    "list_start",
    "list_end",
    "rexpr_list_start",
    "rexpr_list_end",
    "name_location",
    "replace",
    "row_format",
    "funcformat",
    "ancestors",
}
_DEFAULT_OPTIONS: Final = {("volatility", "volatile"), ("security", "False")}
_COMMENTS: Final = {"SQL_COMMENT", "C_COMMENT"}

Tree = Any


def of(node: Any, *, qualified: bool = True) -> Tree:
    """Return a node as nested tuples without positions, casts and spellings.

    :param qualified: whether the qualification of a column's name counts.
    """
    match node:
        case ast.TypeCast():
            return of(node.arg, qualified=qualified)
        case ast.TypeName():
            name = str((node.names or ())[-1].sval)
            return ("type", name, of(node.typmods), len(node.arrayBounds or ()), node.setof)
        case ast.ColumnRef() if not qualified:
            return ("column", of((node.fields or ())[-1]))
        case ast.A_Expr(lexpr=ast.RowExpr() as left, rexpr=ast.RowExpr() as right) if (
            node.kind == enums.A_Expr_Kind.AEXPR_DISTINCT
        ):
            # The server compares rows column by column.
            pairs = zip(left.args or (), right.args or (), strict=True)
            each = (ast.A_Expr(kind=node.kind, name=node.name, lexpr=a, rexpr=b) for a, b in pairs)
            return ("or", *(of(pair, qualified=qualified) for pair in each))
        case ast.BoolExpr(boolop=enums.BoolExprType.OR_EXPR):
            branches = (of(each, qualified=qualified) for each in node.args or ())
            return ("or", *(leaf for each in branches for leaf in _leaves(each)))
        case ast.Node():
            parts = ((name, of(getattr(node, name), qualified=qualified)) for name in node)
            return (
                type(node).__name__,
                *((name, part) for name, part in parts if name not in _IGNORED and part),
            )
        case tuple() | list():
            return tuple(of(each, qualified=qualified) for each in node)
        case Enum():
            return (type(node).__name__, node.value)
    return node


def _leaves(tree: Tree) -> tuple[Tree, ...]:
    return tuple(tree[1:]) if isinstance(tree, tuple) and tree[:1] == ("or",) else (tree,)


@cache
def expression(text: str) -> Tree:
    """Return an expression's tree."""
    (statement,) = pglast.parse_sql(f"select {text}")
    assert isinstance(statement.stmt, ast.SelectStmt)  # noqa: S101
    return of((statement.stmt.targetList or ())[0].val)


@cache
def trigger(definition: str) -> Tree:
    """Return the tree of a ``create trigger``."""
    (statement,) = pglast.parse_sql(definition)
    return of(statement.stmt)


@cache
def function(definition: str) -> Tree:
    """Return what a ``create function`` says; its body as words, without spaces and comments."""
    (statement,) = pglast.parse_sql(definition)
    assert isinstance(statement.stmt, ast.CreateFunctionStmt)  # noqa: S101
    return function_of(statement.stmt)


def function_of(node: ast.CreateFunctionStmt) -> Tree:
    """Return the same of a statement that is parsed already."""
    options: dict[str, Tree] = {}
    for option in node.options or ():
        if option.defname == "as":
            options["as"] = tuple(tuple(words(str(part.sval))) for part in option.arg)
        elif option.defname == "set":
            options[f"set {option.arg.name}"] = of(option.arg)
        else:
            value = str(getattr(option.arg, "sval", getattr(option.arg, "boolval", option.arg)))
            if (option.defname, value) not in _DEFAULT_OPTIONS:
                options[option.defname] = value
    # What the server gives back for a body in standard SQL is qualified throughout.
    body = of(node.sql_body, qualified=False)
    parameters = [(each.name, of(each.argType), _mode(each.mode)) for each in node.parameters or ()]
    return (node.is_procedure, parameters, of(node.returnType), sorted(options.items()), body)


def _mode(mode: enums.FunctionParameterMode) -> str:
    default = enums.FunctionParameterMode.FUNC_PARAM_DEFAULT
    return "in" if mode in (default, enums.FunctionParameterMode.FUNC_PARAM_IN) else mode.name


def words(text: str) -> Iterator[str]:
    """Split code into words, without spaces and comments."""
    data = text.encode()
    for token in pglast.scan(text):
        if token.name not in _COMMENTS:
            yield data[token.start : token.end + 1].decode()
