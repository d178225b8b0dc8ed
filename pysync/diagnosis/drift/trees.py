"""Row filters as trees that are equal where PostgreSQL's own spelling differs from ours.

The server gives back expressions with casts, parentheses and ``ROW(…)`` spelled out.
"""

from enum import Enum
from functools import cache
from typing import Any, Final

import pglast
from pglast import ast, enums

_IGNORED: Final = {"location", "list_start", "list_end", "rexpr_list_start", "rexpr_list_end"}
_ANY: Final = (enums.A_Expr_Kind.AEXPR_OP_ANY, enums.A_Expr_Kind.AEXPR_OP_ALL)

Tree = Any


def of(node: Any) -> Tree:
    """Return a node as nested tuples without positions, casts and spellings."""
    match node:
        case ast.TypeCast():
            return of(node.arg)
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
