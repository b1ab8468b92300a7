"""Rows for a grid: paged by position, filtered, searched, sorted by any column, counted in all and per group.

A page is made of two things that are kept for a while: which rows are taken (a filter, a text to search), and in which
order all rows stand (sort columns, or the order of a plan). Both are arrays of row numbers, 4 bytes a row, so that
paging through a sorted and filtered grid costs a look into an array and the reading of the page's own rows. VIEW_BYTES
bounds them; the least recently used go. What they are made of, and takes long to make (the order by key, the places of
texts, the numbers of groups), is bounded by itself, so that it outlives them. For a page of a source as it lies nothing
is loaded.
Calls block: who serves many runs them in threads. Raises InvalidInput for what is wrong with a question, Unavailable.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.filter_places import nearest
from penstock.filters import Filter
from penstock.runtime.errors import InvalidInput
from planner.domain.ordering import MAX_SORT_COLUMNS, SortColumn
from planner.domain.schema import ColumnKind, Schema
from planner.fields import columns_of, fields_of
from planner.filter_duckdb import condition
from planner.grid_order import is_text, moved, numbers_of, places_of
from planner.grid_tables import FILE, GridTables, Relation

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int32]

__all__ = ["MAX_PAGE", "MOST_GROUPS", "Grid", "GridPage", "GridQuery", "GridRow"]

MAX_PAGE = 1_000
MAX_SEARCH = 200
MOST_GROUPS = 1_000
CELL_CHARACTERS = 1_000
VIEW_BYTES, BASE_BYTES = 48 << 20, 64 << 20


@dataclass(frozen=True, kw_only=True)
class GridQuery:
    """`sort`: none is the source's own order, or the plan's. `plan`: the file of a plan of this source: its items
    alone. `search`: a part of any column, in upper or lower case. `columns`: those that are shown; none are all."""

    filter: str = ""
    search: str = ""
    sort: tuple[SortColumn, ...] = ()
    plan: Path | None = None
    columns: tuple[str, ...] = ()
    offset: int = 0
    limit: int = 100
    groups: bool = False


@dataclass(frozen=True)
class GridRow:
    """`row`: its place in the source; `seq`: its place in the plan, where one is asked for. values: of the columns
    that are shown, a time in milliseconds, texts cut at CELL_CHARACTERS."""

    row: int
    seq: int | None
    key: str
    group: str
    values: tuple[str | int | float | bool | None, ...]


@dataclass(frozen=True)
class GridPage:
    """total: rows that the question takes; groups: (group, rows), the largest first, when asked for."""

    rows: tuple[GridRow, ...]
    total: int
    groups: tuple[tuple[str, int], ...] = ()
    group_count: int = 0


@dataclass(frozen=True)
class _Kept:
    """A number for each row, or row numbers; `names`: of the groups that are numbered."""

    rows: Rows
    names: tuple[str, ...] = ()

    @property
    def weight(self) -> int:
        return self.rows.nbytes + sum(100 + len(name) for name in self.names)


class Grid:
    def __init__(self, tables: GridTables, *, view_bytes: int = VIEW_BYTES) -> None:
        self._tables = tables
        self._bounds = {False: view_bytes, True: BASE_BYTES}
        self._lock = threading.Lock()
        self._pools: dict[bool, OrderedDict[tuple[object, ...], _Kept]] = {False: OrderedDict(), True: OrderedDict()}
        self._making: dict[tuple[object, ...], threading.Lock] = {}

    def page(self, snapshot: Path, schema: Schema, query: GridQuery) -> GridPage:
        """One page. Raises InvalidInput, Unavailable."""
        chosen = _checked(schema, query)
        snapshot = snapshot.resolve()
        plain = chosen.node is None and not query.search and not query.sort and query.plan is None
        with self._tables.opened(snapshot, schema, load=query.groups or not plain) as (cursor, relation):
            view = None if plain else self._view(cursor, relation, query, chosen)
            total = relation.count if view is None else len(view)
            first, end = min(query.offset, total), min(query.offset + query.limit, total)
            wanted = range(first, end) if view is None else view[first:end].tolist()
            rows = _read(cursor, relation, query.columns, wanted)
            seqs = self._seqs(cursor, relation, query.plan, wanted)
            groups, group_count = self._groups(cursor, relation, view) if query.groups else ((), 0)
        return GridPage(tuple(GridRow(row, seqs.get(row), *rows[row]) for row in wanted), total, groups, group_count)

    def rows(self, snapshot: Path, schema: Schema, query: GridQuery) -> Sequence[int]:
        """The places of all rows that a question takes, in its order: for selections made in a grid."""
        chosen = _checked(schema, query)
        with self._tables.opened(snapshot.resolve(), schema) as (cursor, relation):
            found: list[int] = self._view(cursor, relation, query, chosen).tolist()
        return found

    def _view(self, cursor: duckdb.DuckDBPyConnection, relation: Relation, query: GridQuery, chosen: Filter) -> Rows:
        """The rows that a question takes, in its order."""
        import numpy as np

        of = relation.snapshot
        if query.sort:
            order = self._sorted(cursor, relation, query.sort)
        elif query.plan is not None:
            order = self._plan(cursor, relation, query.plan)
        else:
            order = None
        parts = []
        if chosen.node is not None:
            parts.append(
                self._keep(("filter", of, query.filter), lambda: _Kept(_filtered(cursor, relation, chosen))).rows
            )
        if query.search:
            parts.append(
                self._keep(("search", of, query.search), lambda: _Kept(_found(cursor, relation, query.search))).rows
            )
        if query.sort and query.plan is not None:
            parts.append(self._plan(cursor, relation, query.plan))
        if not parts:
            return np.arange(relation.count, dtype=np.int32) if order is None else order
        inside = _mask(relation.count, parts[0])
        for part in parts[1:]:
            inside &= _mask(relation.count, part)
        return np.flatnonzero(inside).astype(np.int32) if order is None else order[inside[order]]

    def _sorted(self, cursor: duckdb.DuckDBPyConnection, relation: Relation, sort: tuple[SortColumn, ...]) -> Rows:
        """All rows by these columns, then by key: the order by key is made once, and each column moved to the front."""

        def made() -> _Kept:
            of = relation.snapshot
            order = self._keep(("by key", of), lambda: _Kept(_by_key(cursor, relation)), base=True).rows
            for column in reversed(sort):
                if is_text(relation, column.name):
                    places = self._places(cursor, relation, column.name)
                    order = moved(order, places, descending=column.descending)
                else:
                    numbers, lacks = numbers_of(cursor, relation, column.name)
                    order = moved(order, numbers, descending=column.descending, lacks=lacks)
            return _Kept(order)

        return self._keep(("sort", relation.snapshot, sort), made).rows

    def _places(self, cursor: duckdb.DuckDBPyConnection, relation: Relation, name: str) -> Rows:
        """Kept, since one way and the other, and a second column beside it, ask for the same."""
        return self._keep(
            ("places", relation.snapshot, name), lambda: _Kept(places_of(cursor, relation, name)), base=True
        ).rows

    def _plan(self, cursor: duckdb.DuckDBPyConnection, relation: Relation, plan: Path) -> Rows:
        """The rows of a plan's items in the plan's order."""
        return self._keep(
            ("plan", relation.snapshot, plan), lambda: _Kept(_of_plan(cursor, relation, plan)), base=True
        ).rows

    def _seqs(
        self, cursor: duckdb.DuckDBPyConnection, relation: Relation, plan: Path | None, rows: Sequence[int]
    ) -> dict[int, int]:
        if plan is None:
            return {}
        import numpy as np

        def places() -> _Kept:
            order = self._plan(cursor, relation, plan)
            found = np.full(relation.count, -1, dtype=np.int32)
            found[order] = np.arange(len(order), dtype=np.int32)
            return _Kept(found)

        seqs = self._keep(("seqs", relation.snapshot, plan), places).rows
        return {row: int(seqs[row]) for row in rows}

    def _groups(
        self, cursor: duckdb.DuckDBPyConnection, relation: Relation, view: Rows | None
    ) -> tuple[tuple[tuple[str, int], ...], int]:
        import numpy as np

        coded = self._keep(("groups", relation.snapshot), lambda: _coded(cursor, relation), base=True)
        codes = coded.rows if view is None else coded.rows[view]
        counts = np.bincount(codes, minlength=len(coded.names)).tolist()
        held = [(name, count) for name, count in zip(coded.names, counts, strict=True) if count]
        held.sort(key=lambda one: (-one[1], one[0]))
        return tuple(held[:MOST_GROUPS]), len(held)

    def _keep(self, key: tuple[object, ...], make: Callable[[], _Kept], *, base: bool = False) -> _Kept:
        """What is kept under a key, made when it is not there; of several callers one makes it, and the others wait."""
        pool = self._pools[base]
        with self._lock:
            turn = self._making.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                found = pool.get(key)
                if found is not None:
                    pool.move_to_end(key)
                    self._making.pop(key, None)
                    return found
            try:
                made = make()
                made.rows.flags.writeable = False
                with self._lock:
                    pool[key] = made
                    held = sum(kept.weight for kept in pool.values())
                    while held > self._bounds[base] and len(pool) > 1:
                        held -= pool.popitem(last=False)[1].weight
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return made


def _checked(schema: Schema, query: GridQuery) -> Filter:
    """The filter of a question that can be asked. Raises InvalidInput."""
    if query.offset < 0 or not 1 <= query.limit <= MAX_PAGE:
        raise InvalidInput(
            f"a page begins at 0 or later and has 1-{MAX_PAGE:,} rows; "
            f"{query.limit:,} from {query.offset:,} on were asked for",
            code="bad_page",
        )
    if len(query.search) > MAX_SEARCH or "\0" in query.search or not query.search.isprintable():
        raise InvalidInput(
            f"a text to search has at most {MAX_SEARCH} characters that can be printed", code="bad_search"
        )
    if len(query.sort) > MAX_SORT_COLUMNS:
        raise InvalidInput(f"at most {MAX_SORT_COLUMNS} columns are sorted by", code="bad_order")
    for name, wanted, code in (
        *((column.name, "to sort by", "bad_order") for column in query.sort),
        *((name, "to show", "no_such_column") for name in query.columns),
    ):
        if schema.place(name) is None:
            raise InvalidInput(f"there is no column {name!r} {wanted}; {nearest(name, schema.names)}", code=code)
    return Filter.parse(query.filter, fields_of(schema))


def _filtered(cursor: duckdb.DuckDBPyConnection, relation: Relation, chosen: Filter) -> Rows:
    values = relation.values(relation.sql)
    where = condition(chosen, columns_of(relation.schema), values)
    return _array(cursor, f"SELECT {relation.row}::INTEGER AS found FROM {relation.sql} WHERE {where}", values)


def _found(cursor: duckdb.DuckDBPyConnection, relation: Relation, search: str) -> Rows:
    return _array(
        cursor,
        f"SELECT {relation.searched_row}::INTEGER AS found FROM {relation.searched_sql} "
        f"WHERE contains({relation.search}, lower($search))",
        relation.values(relation.searched_sql) | {"search": search},
    )


def _mask(count: int, rows: Rows) -> NDArray[np.bool_]:
    import numpy as np

    found = np.zeros(count, dtype=np.bool_)
    found[rows] = True
    return found


def _coded(cursor: duckdb.DuckDBPyConnection, relation: Relation) -> _Kept:
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
    return _Kept(codes, tuple(names))


def _by_key(cursor: duckdb.DuckDBPyConnection, relation: Relation) -> Rows:
    return _array(
        cursor,
        f"SELECT file_row_number::INTEGER AS found FROM {FILE} ORDER BY key",
        {"snapshot": str(relation.snapshot)},
    )


def _of_plan(cursor: duckdb.DuckDBPyConnection, relation: Relation, plan: Path) -> Rows:
    return _array(
        cursor,
        "SELECT items.file_row_number::INTEGER AS found FROM read_parquet($plan) AS plan "
        f"JOIN {FILE} AS items ON items.key = plan.key "
        "WHERE plan.stage = 0 ORDER BY plan.seq",
        {"snapshot": str(relation.snapshot), "plan": str(plan.resolve())},
    )


def _read(
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
        return f"epoch_ms({column})"
    if kind in (ColumnKind.TEXT, ColumnKind.JSON):
        cut = f"substr({column}, 1, {CELL_CHARACTERS - 1}) || '…'"
        return f"CASE WHEN length({column}) > {CELL_CHARACTERS} THEN {cut} ELSE {column} END"
    return column


def _array(cursor: duckdb.DuckDBPyConnection, query: str, values: dict[str, object]) -> Rows:
    import numpy as np

    found = cursor.execute(query, values).fetchnumpy()["found"]
    array: Rows = np.ascontiguousarray(found, dtype=np.int32)
    return array
