"""What a grid asks of DuckDB: each function is one statement, and answers row numbers, or the cells of some rows.

Nothing is kept here. Values of a question go as parameters; names of columns never reach a statement.
Raises Unavailable when a file can't be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.filters import Filter
from planner.domain.schema import ColumnKind, Schema
from planner.fields import columns_of
from planner.filter_duckdb import condition
from planner.grid_results import PREFIX, STATES, Beside
from planner.grid_tables import FILE, Relation

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int32]

__all__ = [
    "CELL_CHARACTERS",
    "Kept",
    "Open",
    "by_key",
    "filtered",
    "found_rows",
    "groups_of",
    "of_plan",
    "read_rows",
    "states_of",
]

CELL_CHARACTERS = 1_000


@dataclass(frozen=True)
class Kept:
    """A number for each row, or row numbers; `names`: of the groups that are numbered."""

    rows: Rows
    names: tuple[str, ...] = ()

    @property
    def weight(self) -> int:
        return self.rows.nbytes + sum(100 + len(name) for name in self.names)


@dataclass(frozen=True)
class Open:
    """A source that is read, with what stands beside it."""

    cursor: duckdb.DuckDBPyConnection
    relation: Relation
    beside: Beside | None

    def of(self, names: Iterable[str]) -> tuple[object, ...]:
        """What is kept of these columns belongs to this."""
        if self.beside is not None and any(name in self.beside.columns for name in names):
            return (self.relation.snapshot, self.beside.table)
        return (self.relation.snapshot,)


def filtered(opened: Open, chosen: Filter) -> Rows:
    """The rows that a filter takes, in any order."""
    import numpy as np

    cursor, relation, beside = opened.cursor, opened.relation, opened.beside
    values = relation.values(relation.sql)
    of_results = chosen.names & set(beside.columns) if beside is not None else frozenset()
    if beside is None or not of_results:
        where = condition(chosen, columns_of(relation.schema), values)
        return _array(cursor, f"SELECT {relation.row}::INTEGER AS found FROM {relation.sql} WHERE {where}", values)
    if of_results == chosen.names:
        values = {}
        where = condition(chosen, beside.columns, values)
        query = f'SELECT "row" AS found FROM {beside.table} AS results WHERE '
        if not chosen.matches({}):
            return _array(cursor, query + where, values)
        # It takes the rows that have no result, so what it does not take is told by the others alone.
        inside = np.ones(relation.count, dtype=np.bool_)
        inside[_array(cursor, f"{query}NOT coalesce({where}, false)", values)] = False
        return np.flatnonzero(inside).astype(np.int32)
    where = condition(chosen, {**columns_of(relation.schema, "items."), **beside.columns}, values)
    return _array(
        cursor,
        f"SELECT items.{relation.row}::INTEGER AS found FROM {relation.sql} AS items "
        f'LEFT JOIN {beside.table} AS results ON results."row" = items.{relation.row} WHERE {where}',
        values,
    )


def found_rows(cursor: duckdb.DuckDBPyConnection, relation: Relation, search: str) -> Rows:
    return _array(
        cursor,
        f"SELECT {relation.searched_row}::INTEGER AS found FROM {relation.searched_sql} "
        f"WHERE contains({relation.search}, lower($search))",
        relation.values(relation.searched_sql) | {"search": search},
    )


def groups_of(cursor: duckdb.DuckDBPyConnection, relation: Relation) -> Kept:
    """The number of each row's group, by DuckDB: a text of each row would become an object of Python."""
    values = relation.values(relation.sql)
    groups = cursor.execute(f'SELECT DISTINCT "group" FROM {relation.sql} ORDER BY 1', values).fetchall()
    names = [row[0] for row in groups]
    codes = _array(
        cursor,
        "SELECT names.code::INTEGER AS found FROM (SELECT unnest($names::VARCHAR[]) AS name, "
        f"unnest(range(len($names::VARCHAR[]))) AS code) AS names JOIN {relation.sql} AS items "
        f'ON names.name = items."group" ORDER BY items.{relation.row}',
        values | {"names": names},
    )
    return Kept(codes, tuple(names))


def states_of(cursor: duckdb.DuckDBPyConnection, beside: Beside, count: int) -> Kept:
    """The number of each row's state; 0 where it has no result."""
    import numpy as np

    names = ("", *STATES)
    state = beside.columns[f"{PREFIX}state"].sql
    found = cursor.execute(
        f'SELECT "row", list_position($names::VARCHAR[], {state})::INTEGER - 1 AS code FROM {beside.table} AS results',
        {"names": list(names)},
    ).fetchnumpy()
    codes = np.zeros(count, dtype=np.int32)
    codes[found["row"]] = found["code"]
    return Kept(codes, names)


def by_key(cursor: duckdb.DuckDBPyConnection, relation: Relation) -> Rows:
    return _array(
        cursor,
        f"SELECT file_row_number::INTEGER AS found FROM {FILE} ORDER BY key",
        {"snapshot": str(relation.snapshot)},
    )


def of_plan(cursor: duckdb.DuckDBPyConnection, relation: Relation, plan: Path) -> Rows:
    return _array(
        cursor,
        "SELECT items.file_row_number::INTEGER AS found FROM read_parquet($plan) AS plan "
        f"JOIN {FILE} AS items ON items.key = plan.key "
        "WHERE plan.stage = 0 ORDER BY plan.seq",
        {"snapshot": str(relation.snapshot), "plan": str(plan.resolve())},
    )


def read_rows(
    cursor: duckdb.DuckDBPyConnection, relation: Relation, columns: Sequence[str], rows: Sequence[int]
) -> dict[int, tuple[str, str, tuple[str | int | float | bool | None, ...]]]:
    """key, group and values of these rows."""
    if not len(rows):
        return {}
    names = columns or [column.name for column in relation.schema.columns]
    cells = "".join(f", {_cell(relation.schema, name)}" for name in names)
    values = relation.values(relation.sql) | {"first": min(rows), "last": max(rows)}
    some = ""
    if len(rows) <= values["last"] - values["first"]:  # type: ignore[operator]
        values["rows"] = list(rows)
        some = f"AND {relation.row} IN (SELECT unnest($rows::BIGINT[]))"
    found = cursor.execute(
        f'SELECT {relation.row}, key, "group"{cells} FROM {relation.sql} '
        f"WHERE {relation.row} >= $first AND {relation.row} <= $last {some}",
        values,
    ).fetchall()
    return {row[0]: (row[1], row[2], row[3:]) for row in found}


def _cell(schema: Schema, name: str) -> str:
    column, kind = f'"{schema.place(name)}"', schema.kind(name)
    if kind is ColumnKind.TIME:
        # RFC 3339, as all times in JSON are.
        whole, exact = (f"strftime({column}, '%Y-%m-%dT%H:%M:{seconds}Z')" for seconds in ("%S", "%S.%g"))
        return f"CASE WHEN epoch_ms({column}) % 1000 = 0 THEN {whole} ELSE {exact} END"
    if kind in (ColumnKind.TEXT, ColumnKind.JSON):
        cut = f"substr({column}, 1, {CELL_CHARACTERS - 1}) || '…'"
        return f"CASE WHEN length({column}) > {CELL_CHARACTERS} THEN {cut} ELSE {column} END"
    return column


def _array(cursor: duckdb.DuckDBPyConnection, query: str, values: dict[str, object]) -> Rows:
    import numpy as np

    found = cursor.execute(query, values).fetchnumpy()["found"]
    array: Rows = np.ascontiguousarray(found, dtype=np.int32)
    return array
