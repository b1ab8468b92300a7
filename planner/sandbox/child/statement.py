"""What a query may be: exactly one SELECT, of the tables it is given, with functions that are listed.

DuckDB's own parser makes a tree of the text, and all of the tree is walked. What it may hold is listed, everywhere; so
whatever is not known here is refused, also what a later DuckDB adds. Names of WITH count where they are in scope, and
nowhere else: a name that DuckDB would look for in its catalog or as a file is a table that was given, or refused.
Pure: the tree comes in as what JSON made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from planner.sandbox.child.functions import FUNCTIONS, TABLE_FUNCTIONS

__all__ = ["Refused", "check_tree"]

_CLASSES = frozenset(
    (
        *("BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION"),
        *("LAMBDA", "OPERATOR", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "TYPE", "WINDOW"),
    )
)
"""Kinds of expressions."""

_NODES = frozenset(
    (
        *("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"),
        *("BASE_TABLE", "JOIN", "SUBQUERY", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY"),
        *("ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"),
        *("ORDER_DEFAULT", "ASCENDING", "DESCENDING", "ORDER_ASCENDING", "ORDER_DESCENDING"),
    )
)
"""Kinds of everything else: queries, what stands behind FROM, ORDER and LIMIT."""

_WHAT = {
    "PARAMETER": "a parameter has no value here: write the value",
    "SHOW_REF": "DESCRIBE, SHOW and SUMMARIZE give no keys: write a SELECT",
    "PIVOT": "PIVOT is not taken: write a SELECT with GROUP BY",
}
_NOWHERE = (1 << 64) - 1


class Refused(Exception):
    """Why there is no answer. position: of the byte in the text that it is about, from 0; -1: of none."""

    def __init__(self, code: str, message: str, position: int = -1) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.position = position


def check_tree(tree: Mapping[str, Any], tables: Iterable[str]) -> None:
    """Raises Refused for what DuckDB's json_serialize_sql made of a text, unless it may run over these tables."""
    if tree.get("error"):
        if tree.get("error_type") == "not implemented":
            raise Refused("sql_refused", "only a SELECT may be asked")
        raise Refused("bad_sql", str(tree.get("error_message")), int(tree.get("position", -1)))
    statements = tree["statements"]
    if len(statements) != 1:
        raise Refused("sql_refused", f"one SELECT is taken, this has {len(statements)}")
    names = {fold(name): name for name in tables}
    _Walk(sorted(names.values())).visit(statements[0]["node"], frozenset(names), -1)


def fold(name: str) -> bytes:
    """As DuckDB compares names: the letters of ASCII have no case, all others do."""
    return name.encode("utf-8", "surrogatepass").lower()


class _Walk:
    def __init__(self, tables: list[str]) -> None:
        self._tables = tables

    def visit(self, node: Any, scope: frozenset[bytes], at: int) -> None:
        if isinstance(node, list):
            for each in node:
                self.visit(each, scope, at)
        elif isinstance(node, dict):
            self._visit(node, scope, at)

    def _visit(self, node: dict[str, Any], scope: frozenset[bytes], at: int) -> None:
        if node.get("query_location", _NOWHERE) != _NOWHERE:
            at = node["query_location"]
        kind, name = node.get("class"), node.get("type")
        if kind is None and isinstance(name, str):
            if name not in _NODES:
                raise Refused("sql_refused", _WHAT.get(name, f"a query can't have {_words(name)}"), at)
            if name == "BASE_TABLE":
                self._table(node, scope, at)
            elif name == "TABLE_FUNCTION":
                self._table_function(node, scope, at)
                return
            elif name in ("RECURSIVE_CTE_NODE", "CTE_NODE"):
                scope = scope | {fold(node["cte_name"])}
        elif kind is not None:
            if kind not in _CLASSES:
                raise Refused("sql_refused", _WHAT.get(kind, f"a query can't have {_words(str(kind))}"), at)
            if kind in ("FUNCTION", "WINDOW"):
                _function(node, at)
            elif kind == "TYPE" and len(node["qualified_name"]["path"]) != 1:
                raise Refused("sql_refused", "types have no schema here", at)
        if "cte_map" in node:
            for entry in node["cte_map"]["map"]:
                self.visit(entry["value"], scope, at)
                scope = scope | {fold(entry["key"])}
        for field, value in node.items():
            if field != "cte_map":
                self.visit(value, scope, at)

    def _table(self, node: dict[str, Any], scope: frozenset[bytes], at: int) -> None:
        path = node["qualified_name"]["path"]
        if len(path) != 1 or fold(path[0]) not in scope or node.get("at_clause") is not None:
            raise Refused("sql_refused", f"there is no table {'.'.join(path)}; there are {', '.join(self._tables)}", at)

    def _table_function(self, node: dict[str, Any], scope: frozenset[bytes], at: int) -> None:
        function = node["function"]
        path = function["qualified_name"]["path"]
        if function["class"] != "FUNCTION" or len(path) != 1 or fold(path[0]).decode() not in TABLE_FUNCTIONS:
            raise Refused(
                "sql_refused",
                f"{'.'.join(path)}(…) can't be selected from; {', '.join(sorted(TABLE_FUNCTIONS))} can",
                at,
            )
        for field, value in function.items():
            if field not in ("class", "type"):
                self.visit(value, scope, at)
        self.visit(node.get("sample"), scope, at)


def _function(node: dict[str, Any], at: int) -> None:
    # `x.lower()` has the path of a schema's function; no function that is listed has another meaning in a schema.
    path = node["qualified_name"]["path"] if "qualified_name" in node else [node["function_name"]]
    if not path or (path[-1] not in FUNCTIONS and fold(path[-1]).decode("utf-8", "replace") not in FUNCTIONS):
        raise Refused("sql_refused", f"the function {'.'.join(path)} is not known, or not for queries of this kind", at)


def _words(name: str) -> str:
    return name.removesuffix("_NODE").removesuffix("_REF").replace("_", " ")
