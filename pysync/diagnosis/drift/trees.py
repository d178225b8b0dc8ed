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
_DEFAULT_OPTIONS: Final = {
    ("volatility", "volatile"),
    ("security", "False"),
    ("strict", "False"),
    ("parallel", "unsafe"),
}
_ANY: Final = (enums.A_Expr_Kind.AEXPR_OP_ANY, enums.A_Expr_Kind.AEXPR_OP_ALL)
_INPUTS: Final = ("in", "inout", "variadic")
_COMMENTS: Final = {"SQL_COMMENT", "C_COMMENT"}

Tree = Any


def of(node: Any) -> Tree:
    """Return a node as nested tuples without positions, casts and spellings."""
    match node:
        case ast.TypeCast():
            return of(node.arg)
        case ast.TypeName():
            name = str((node.names or ())[-1].sval)
            return ("type", name, of(node.typmods), len(node.arrayBounds or ()), node.setof)
        case ast.A_Expr(rexpr=ast.A_ArrayExpr() as array) if node.kind in _ANY:
            # As the server spells `in (…)` and `not in (…)`.
            return ("in", of(node.name), of(node.lexpr), of(array.elements))
        case ast.A_Expr(kind=enums.A_Expr_Kind.AEXPR_IN):
            return ("in", of(node.name), of(node.lexpr), of(node.rexpr))
        case ast.A_Expr(lexpr=ast.RowExpr() as left, rexpr=ast.RowExpr() as right) if (
            node.kind == enums.A_Expr_Kind.AEXPR_DISTINCT
        ):
            # The server compares rows column by column.
            pairs = zip(left.args or (), right.args or (), strict=True)
            each = (ast.A_Expr(kind=node.kind, name=node.name, lexpr=a, rexpr=b) for a, b in pairs)
            return ("or", *(of(pair) for pair in each))
        case ast.BoolExpr(boolop=enums.BoolExprType.OR_EXPR):
            branches = (of(each) for each in node.args or ())
            return ("or", *(leaf for each in branches for leaf in _leaves(each)))
        case ast.Node():
            parts = ((name, of(getattr(node, name))) for name in node)
            return (
                type(node).__name__,
                *((name, part) for name, part in parts if name not in _IGNORED and part),
            )
        case tuple() | list():
            return tuple(of(each) for each in node)
        case Enum():
            return (type(node).__name__, node.value)
    return node


def _leaves(tree: Tree) -> tuple[Tree, ...]:
    return tuple(tree[1:]) if isinstance(tree, tuple) and tree[:1] == ("or",) else (tree,)


@cache
def expression(text: str) -> Tree:
    """Return an expression's tree."""
    try:
        (statement,) = pglast.parse_sql(f"select {text}")
    except pglast.Error:
        return text  # of a newer server; it equals nothing of ours
    assert isinstance(statement.stmt, ast.SelectStmt)  # noqa: S101
    return of((statement.stmt.targetList or ())[0].val)


@cache
def trigger(definition: str) -> Tree:
    """Return the tree of a ``create trigger``."""
    (statement,) = pglast.parse_sql(definition)
    return of(statement.stmt)


@cache
def function(definition: str) -> Tree:
    """Return what a ``create function`` says; its body as words, without spaces and comments.

    Defaults of parameters are left out: the server gives back what they evaluate to.
    """
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
    parameters = [
        (each.name, _type(each.argType), _mode(each.mode)) for each in node.parameters or ()
    ]
    # With OUT parameters the server spells out what they make of the return type.
    if node.returnType is None or any(mode not in ("in", "variadic") for *_, mode in parameters):
        returned = None
    else:
        returned = (_type(node.returnType), bool(node.returnType.setof))
    options["body"] = tuple(sorted(_named_in(node.sql_body)))
    return (bool(node.is_procedure), parameters, returned, sorted(options.items()))


def signature(node: ast.CreateFunctionStmt) -> tuple[str, ...]:
    """Return a function's qualified name and the types of its arguments."""
    name = ".".join(str(part.sval) for part in node.funcname or ())
    inputs = (each for each in node.parameters or () if _mode(each.mode) in _INPUTS)
    return (name, *(_type(each.argType) for each in inputs))


@cache
def signature_of(definition: str) -> tuple[str, ...]:
    """Return the same of a ``create function`` as the server gives it back."""
    (statement,) = pglast.parse_sql(definition)
    assert isinstance(statement.stmt, ast.CreateFunctionStmt)  # noqa: S101
    return signature(statement.stmt)


def _type(node: ast.TypeName | None) -> str:
    """Return a type's own name: functions forget lengths, and the server qualifies."""
    if node is None:
        return ""
    return str((node.names or ())[-1].sval) + "[]" * len(node.arrayBounds or ())


def _named_in(node: Any) -> Iterator[str]:
    """Return the tables and functions that a body in standard SQL names.

    The server gives such a body back with every alias, column and cast spelled out: the rest of it
    can't be compared.
    """
    match node:
        case ast.RangeVar():
            yield f"{node.schemaname}.{node.relname}"
        case ast.FuncCall():
            yield f"{(node.funcname or ())[-1].sval}()"
            yield from _named_in(node.args)
        case ast.Node():
            for name in node:
                yield from _named_in(getattr(node, name))
        case tuple() | list():
            for each in node:
                yield from _named_in(each)


def _mode(mode: enums.FunctionParameterMode) -> str:
    default = enums.FunctionParameterMode.FUNC_PARAM_DEFAULT
    plain = (default, enums.FunctionParameterMode.FUNC_PARAM_IN)
    return "in" if mode in plain else mode.name.removeprefix("FUNC_PARAM_").lower()


def words(text: str) -> Iterator[str]:
    """Split code into words, without spaces and comments."""
    data = text.encode()
    for token in pglast.scan(text):
        if token.name not in _COMMENTS:
            yield data[token.start : token.end + 1].decode()
