"""A filter as a condition of SQL, for SQLite and PostgreSQL; it takes exactly the rows that `Filter.matches` takes.

Values go as parameters, never as text of the statement. Letters are compared by code point and folded in ASCII alone,
whatever the database's language settings are, so that a filter means the same on every database and in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from penstock.filter_nodes import And, IsNull, Node, Not, Or, Value, folded
from penstock.filters import Filter

__all__ = ["condition"]

_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"


class _Folded(FunctionElement[str]):
    """ASCII letters in lower case. SQLite's lower() knows no others."""

    type = sa.Text()
    inherit_cache = True


@compiles(_Folded)
def _folded_postgresql(element: _Folded, compiler: Any, **options: Any) -> str:
    return f"translate({compiler.process(element.clauses, **options)}, '{_UPPER}', '{_LOWER}')"


@compiles(_Folded, "sqlite")
def _folded_sqlite(element: _Folded, compiler: Any, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


class _ByCode(FunctionElement[str]):
    """A text that is ordered by code points: SQLite's own order."""

    type = sa.Text()
    inherit_cache = True


@compiles(_ByCode)
def _by_code_postgresql(element: _ByCode, compiler: Any, **options: Any) -> str:
    return f'({compiler.process(element.clauses, **options)} COLLATE "C")'


@compiles(_ByCode, "sqlite")
def _by_code_sqlite(element: _ByCode, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


def condition(filter_: Filter, columns: Mapping[str, sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    """The filter over these columns, one for each field that it names."""
    return sa.true() if filter_.node is None else _condition(filter_.node, columns)


def _condition(node: Node, columns: Mapping[str, sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    if isinstance(node, Not):
        # Null is false here, and its opposite true.
        return sa.not_(sa.func.coalesce(_condition(node.part, columns), sa.false()))
    if isinstance(node, And):
        return sa.and_(*(_condition(part, columns) for part in node.parts))
    if isinstance(node, Or):
        return sa.or_(*(_condition(part, columns) for part in node.parts))
    column = columns[node.name]
    if isinstance(node, IsNull):
        return column.is_(None)
    values = [_literal(value) for value in node.values]
    if node.operator == "in":
        return column.in_(values)
    (value,) = values
    if node.operator == "=":
        return column == value
    if node.operator == ":":
        return _Folded(column).contains(folded(str(node.values[0])), autoescape=True)
    ordered = _ByCode(column) if isinstance(node.values[0], str) else column
    if node.operator == "<":
        return ordered < value
    if node.operator == "<=":
        return ordered <= value
    return ordered > value if node.operator == ">" else ordered >= value


def _literal(value: Value) -> sa.ColumnElement[Any]:
    """The value in its own type: the column's may be too small for it, and would refuse or round it."""
    if isinstance(value, bool):
        return sa.true() if value else sa.false()
    if isinstance(value, int):
        return sa.literal(value, sa.BigInteger())
    return sa.literal(value, sa.Text() if isinstance(value, str) else sa.Double())
