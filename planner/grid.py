"""Rows for a grid: paged by position, filtered, searched, sorted by any column, counted in all and per group.

A page is made of two things that are kept for a while: which rows are taken (a filter, a text to search), and in which
order all rows stand (sort columns, or the order of a plan). Both are arrays of row numbers, 4 bytes a row, so that
paging through a sorted and filtered grid costs a look into an array and the reading of the page's own rows. VIEW_BYTES
bounds them; the least recently used go. What they are made of, and takes long to make (the order by key, the places of
texts, the numbers of groups), is bounded by itself, so that it outlives them. For a page of a source as it lies nothing
is loaded. The results of a processor can stand beside the rows (`planner.grid_results`): then filters and sorts name
their fields, too, and what was kept of an earlier state of the results goes as all does that is not used.
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
from planner.domain.schema import Schema
from planner.fields import fields_of
from planner.grid_order import moved, numbers_of, places_of, sorted_by
from planner.grid_results import Beside, ResultsOf, RowResult
from planner.grid_statements import (
    CELL_CHARACTERS,
    Kept,
    Open,
    by_key,
    filtered,
    found_rows,
    groups_of,
    of_plan,
    read_rows,
    states_of,
)
from planner.grid_tables import GridTables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int32]

__all__ = ["CELL_CHARACTERS", "MAX_PAGE", "MOST_GROUPS", "Grid", "GridPage", "GridQuery", "GridRow"]

MAX_PAGE = 1_000
MAX_SEARCH = 200
MOST_GROUPS = 1_000
VIEW_BYTES, BASE_BYTES = 48 << 20, 64 << 20


@dataclass(frozen=True, kw_only=True)
class GridQuery:
    """`sort`: none is the source's own order, or the plan's. `plan`: the file of a plan of this source: its items
    alone. `search`: a part of any column, in upper or lower case. `columns`: those that are shown; none are all.
    `results`: whose results stand beside the rows."""

    filter: str = ""
    search: str = ""
    sort: tuple[SortColumn, ...] = ()
    plan: Path | None = None
    columns: tuple[str, ...] = ()
    offset: int = 0
    limit: int = 100
    groups: bool = False
    results: ResultsOf | None = None


@dataclass(frozen=True)
class GridRow:
    """`row`: its place in the source; `seq`: its place in the plan, where one is asked for. values: of the columns
    that are shown, a time in milliseconds, texts cut at CELL_CHARACTERS. result: None where there is none."""

    row: int
    seq: int | None
    key: str
    group: str
    values: tuple[str | int | float | bool | None, ...]
    result: RowResult | None = None


@dataclass(frozen=True)
class GridPage:
    """total: rows that the question takes; groups: (group, rows), the largest first, when asked for. beside: the
    results, where they are asked for; states: (state, rows) with the groups, the empty one of rows without a result."""

    rows: tuple[GridRow, ...]
    total: int
    groups: tuple[tuple[str, int], ...] = ()
    group_count: int = 0
    beside: Beside | None = None
    states: tuple[tuple[str, int], ...] = ()


class Grid:
    def __init__(self, tables: GridTables, *, view_bytes: int = VIEW_BYTES) -> None:
        self._tables = tables
        self._bounds = {False: view_bytes, True: BASE_BYTES}
        self._lock = threading.Lock()
        self._pools: dict[bool, OrderedDict[tuple[object, ...], Kept]] = {False: OrderedDict(), True: OrderedDict()}
        self._making: dict[tuple[object, ...], threading.Lock] = {}

    def page(self, snapshot: Path, schema: Schema, query: GridQuery) -> GridPage:
        """One page. Raises InvalidInput, Unavailable."""
        _check(query)
        snapshot = snapshot.resolve()
        plain = not query.filter.strip() and not query.search and not query.sort and query.plan is None
        with (
            self._tables.opened(snapshot, schema, load=query.groups or not plain) as (cursor, relation),
            self._tables.beside(cursor, snapshot, query.results) as beside,
        ):
            opened = Open(cursor, relation, beside)
            chosen = _checked(schema, beside, query)
            view = None if plain else self._view(opened, query, chosen)
            total = relation.count if view is None else len(view)
            first, end = min(query.offset, total), min(query.offset + query.limit, total)
            wanted = range(first, end) if view is None else view[first:end].tolist()
            rows = read_rows(cursor, relation, query.columns, wanted)
            seqs = self._seqs(opened, query.plan, wanted)
            results = beside.rows(cursor, wanted) if beside is not None else {}
            groups, group_count = self._groups(opened, view) if query.groups else ((), 0)
            states = self._states(opened, view) if query.groups else ()
        found = tuple(GridRow(row, seqs.get(row), *rows[row], results.get(row)) for row in wanted)
        return GridPage(found, total, groups, group_count, beside, states)

    def rows(self, snapshot: Path, schema: Schema, query: GridQuery) -> Sequence[int]:
        """The places of all rows that a question takes, in its order: for selections made in a grid."""
        _check(query)
        snapshot = snapshot.resolve()
        with (
            self._tables.opened(snapshot, schema) as (cursor, relation),
            self._tables.beside(cursor, snapshot, query.results) as beside,
        ):
            chosen = _checked(schema, beside, query)
            found: list[int] = self._view(Open(cursor, relation, beside), query, chosen).tolist()
        return found

    def _view(self, opened: Open, query: GridQuery, chosen: Filter) -> Rows:
        """The rows that a question takes, in its order."""
        import numpy as np

        relation = opened.relation
        if query.sort:
            order = self._sorted(opened, query.sort)
        elif query.plan is not None:
            order = self._plan(opened, query.plan)
        else:
            order = None
        parts = []
        if chosen.node is not None:
            key = ("filter", *opened.of(chosen.names), query.filter)
            parts.append(self._keep(key, lambda: Kept(filtered(opened, chosen))).rows)
        if query.search:
            key = ("search", relation.snapshot, query.search)
            parts.append(self._keep(key, lambda: Kept(found_rows(opened.cursor, relation, query.search))).rows)
        if query.sort and query.plan is not None:
            parts.append(self._plan(opened, query.plan))
        if not parts:
            return np.arange(relation.count, dtype=np.int32) if order is None else order
        inside = _mask(relation.count, parts[0])
        for part in parts[1:]:
            inside &= _mask(relation.count, part)
        return np.flatnonzero(inside).astype(np.int32) if order is None else order[inside[order]]

    def _sorted(self, opened: Open, sort: tuple[SortColumn, ...]) -> Rows:
        """All rows by these columns, then by key: the order by key is made once, and each column moved to the front."""
        of = opened.relation.snapshot

        def made() -> Kept:
            order = self._keep(("by key", of), lambda: Kept(by_key(opened.cursor, opened.relation)), base=True).rows
            for column in reversed(sort):
                by = sorted_by(opened.relation, opened.beside, column.name)
                if by.is_text:
                    # Kept, since one way and the other, and a second column beside it, ask for the same.
                    key = ("places", *opened.of((column.name,)), column.name)
                    places = self._keep(key, lambda by=by: Kept(places_of(opened.cursor, by)), base=True).rows  # type: ignore[misc]
                    order = moved(order, places, descending=column.descending)
                else:
                    numbers, lacks = numbers_of(opened.cursor, by)
                    order = moved(order, numbers, descending=column.descending, lacks=lacks)
            return Kept(order)

        return self._keep(("sort", *opened.of(column.name for column in sort), sort), made).rows

    def _plan(self, opened: Open, plan: Path) -> Rows:
        """The rows of a plan's items in the plan's order."""
        of = opened.relation
        return self._keep(("plan", of.snapshot, plan), lambda: Kept(of_plan(opened.cursor, of, plan)), base=True).rows

    def _seqs(self, opened: Open, plan: Path | None, rows: Sequence[int]) -> dict[int, int]:
        if plan is None:
            return {}
        import numpy as np

        def places() -> Kept:
            order = self._plan(opened, plan)
            found = np.full(opened.relation.count, -1, dtype=np.int32)
            found[order] = np.arange(len(order), dtype=np.int32)
            return Kept(found)

        seqs = self._keep(("seqs", opened.relation.snapshot, plan), places).rows
        return {row: int(seqs[row]) for row in rows}

    def _groups(self, opened: Open, view: Rows | None) -> tuple[tuple[tuple[str, int], ...], int]:
        key = ("groups", opened.relation.snapshot)
        coded = self._keep(key, lambda: groups_of(opened.cursor, opened.relation), base=True)
        held = _counted(coded, view)
        return tuple(held[:MOST_GROUPS]), len(held)

    def _states(self, opened: Open, view: Rows | None) -> tuple[tuple[str, int], ...]:
        beside = opened.beside
        if beside is None:
            return ()
        key = ("states", opened.relation.snapshot, beside.table)
        coded = self._keep(key, lambda: states_of(opened.cursor, beside, opened.relation.count))
        return tuple(_counted(coded, view))

    def _keep(self, key: tuple[object, ...], make: Callable[[], Kept], *, base: bool = False) -> Kept:
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


def _check(query: GridQuery) -> None:
    """Raises InvalidInput."""
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


def _checked(schema: Schema, beside: Beside | None, query: GridQuery) -> Filter:
    """The filter of a question that can be asked of these columns. Raises InvalidInput."""
    results = beside.fields if beside is not None else {}
    names = [*schema.names, *results]
    for name, wanted, code in (
        *((column.name, "to sort by", "bad_order") for column in query.sort),
        *((name, "to show", "no_such_column") for name in query.columns),
    ):
        if schema.place(name) is None and (name not in results or name in query.columns):
            raise InvalidInput(f"there is no column {name!r} {wanted}; {nearest(name, names)}", code=code)
    return Filter.parse(query.filter, {**fields_of(schema), **results})


def _mask(count: int, rows: Rows) -> NDArray[np.bool_]:
    import numpy as np

    found = np.zeros(count, dtype=np.bool_)
    found[rows] = True
    return found


def _counted(coded: Kept, view: Rows | None) -> list[tuple[str, int]]:
    """(name, rows) of a view, the largest first."""
    import numpy as np

    codes = coded.rows if view is None else coded.rows[view]
    counts = np.bincount(codes, minlength=len(coded.names)).tolist()
    held = [(name, count) for name, count in zip(coded.names, counts, strict=True) if count]
    held.sort(key=lambda one: (-one[1], one[0]))
    return held
