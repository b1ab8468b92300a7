"""A filter as a condition of DuckDB; it takes exactly the rows that `Filter.matches` takes.

Values go as named parameters (`$p0`, …), never as text of the statement. DuckDB compares texts by their bytes, which is
the order of code points; whole numbers and floats it compares as floats, which rounds past 2**53: so a value is first
made one of the column's own type that means the same. Pure; a name without a column is a KeyError, the caller's defect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.filter_nodes import And, Compare, IsNull, Node, Not, Or, Value, folded
from penstock.filters import Filter
from planner.domain.schema import ColumnKind
from planner.natural_sql import folded_sql

__all__ = ["SqlColumn", "condition"]

_TYPES = {
    ColumnKind.TEXT: "VARCHAR",
    ColumnKind.JSON: "VARCHAR",
    ColumnKind.WHOLE: "BIGINT",
    ColumnKind.NUMBER: "DOUBLE",
    ColumnKind.BOOLEAN: "BOOLEAN",
}


@dataclass(frozen=True)
class SqlColumn:
    """`sql` is an expression of the statement, written by us and no user: a column's own name in quotes."""

    sql: str
    kind: ColumnKind


def condition(filter_: Filter, columns: Mapping[str, SqlColumn], values: dict[str, object]) -> str:
    """The filter over these columns, one for each field that it names; its parameters are put into `values`.

    It is true of the rows that are taken; of the others it is false or null.
    """
    return "true" if filter_.node is None else _condition(filter_.node, columns, values)


def _condition(node: Node, columns: Mapping[str, SqlColumn], values: dict[str, object]) -> str:
    if isinstance(node, Not):
        # Null is false here, and its opposite true.
        return f"(NOT coalesce({_condition(node.part, columns, values)}, false))"
    if isinstance(node, And | Or):
        joined = " AND " if isinstance(node, And) else " OR "
        return f"({joined.join(_condition(part, columns, values) for part in node.parts)})"
    column = columns[node.name]
    if isinstance(node, IsNull):
        return f"({column.sql} IS NULL)"
    if node.operator == ":":
        return f"contains({folded_sql(column.sql)}, {_parameter(folded(str(node.values[0])), 'VARCHAR', values)})"
    if node.operator in ("=", "in"):
        return _equals(node, column, values)
    return _ordered(node.operator, column, node.values[0], values)


def _equals(node: Compare, column: SqlColumn, values: dict[str, object]) -> str:
    if column.kind is ColumnKind.TIME:
        names = [_moment(value, values) for value in node.values]
    else:
        same = [value for value in (_same(value, column.kind) for value in node.values) if value is not None]
        names = [_parameter(value, _TYPES[column.kind], values) for value in same]
    if not names:
        return "false"
    return f"({column.sql} = {names[0]})" if len(names) == 1 else f"({column.sql} IN ({', '.join(names)}))"


def _ordered(operator: str, column: SqlColumn, value: Value, values: dict[str, object]) -> str:
    if column.kind is ColumnKind.TIME:
        return f"({column.sql} {operator} {_moment(value, values)})"
    if column.kind is ColumnKind.WHOLE and isinstance(value, float):
        # The whole numbers that are less than 2.5 are those up to 2.
        down = operator in ("<=", ">")
        value = math.floor(value) if down else math.ceil(value)
    elif column.kind is ColumnKind.NUMBER:
        operator, value = _ordered_float(operator, float(value), value)
    written = f"{column.sql} {operator} {_parameter(value, _TYPES[column.kind], values)}"
    if column.kind is ColumnKind.NUMBER and operator[0] == ">":
        # What is no number is more than every number to DuckDB; to filters it is neither more nor less.
        return f"({written} AND NOT isnan({column.sql}))"
    return f"({written})"


def _ordered_float(operator: str, near: float, value: Value) -> tuple[str, float]:
    """The same question asked with a float: of a whole number between two floats, the one on its side."""
    if near < value:  # type: ignore[operator]
        return ("<=", near) if operator[0] == "<" else (">", near)
    if near > value:  # type: ignore[operator]
        return ("<", near) if operator[0] == "<" else (">=", near)
    return operator, near


def _same(value: Value, kind: ColumnKind) -> Value | None:
    """The value in the column's own type; None when the column can't hold it."""
    if kind is ColumnKind.WHOLE and isinstance(value, float):
        return int(value) if value.is_integer() else None
    if kind is ColumnKind.NUMBER:
        near = float(value)
        return near if near == value else None
    return value


def _moment(value: Value, values: dict[str, object]) -> str:
    return f"epoch_ms({_parameter(value, 'BIGINT', values)})"


def _parameter(value: Value, type_: str, values: dict[str, object]) -> str:
    name = f"p{len(values)}"
    values[name] = value
    return f"${name}::{type_}"
