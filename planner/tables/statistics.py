"""What a person wants to know of a column: how many nulls and different values, the least, the most, the most frequent.

Exact where that is cheap: in small tables, and for columns with at most EXACT_VALUES different values. Else the number
of different values is estimated (HyperLogLog, within a few percent), and the frequent values are the exactly counted
candidates of an approximate count. Long texts have neither least nor frequent values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from penstock.runtime.parquet_files import literal
from planner.domain.schema import ColumnKind
from planner.tables.profile import TypedColumn
from planner.tables.snapshot import text_sql
from planner.tables.wanted import ColumnStatistics

__all__ = ["EXACT_ROWS", "EXACT_VALUES", "statistics"]

EXACT_ROWS = 100_000
EXACT_VALUES = 50_000
FREQUENT = 5
_SHOWN = 200
"""Characters of a value."""
_LONG_BYTES = 1_000
_WIDE = 500
"""Of a table with more columns only the counts are taken."""


@dataclass(frozen=True)
class _Counted:
    """distinct: nearly. longest: bytes of the longest text. least, most: as they are shown."""

    cells: int
    distinct: int
    longest: int
    least: str | None
    most: str | None


def statistics(
    columns: Sequence[TypedColumn], snapshot: Path, cursor: duckdb.DuckDBPyConnection
) -> tuple[ColumnStatistics, ...]:
    """One for each column. Raises duckdb.Error."""
    relation = f"read_parquet({literal(snapshot.resolve())})"
    rows, counts = _counts(columns, relation, cursor)
    short = {column.place for column, one in zip(columns, counts, strict=True) if one.longest <= _LONG_BYTES}
    told = []
    for column, counted in zip(columns, counts, strict=True):
        cells, distinct = counted.cells, counted.distinct
        exact, frequent = False, tuple[tuple[str, int], ...]()
        if column.place in short and len(columns) <= _WIDE:
            if rows <= EXACT_ROWS or distinct <= EXACT_VALUES:
                exact = True
                distinct, frequent = _exact(column, relation, cursor)
            elif 2 * distinct < cells:
                frequent = _candidates(column, relation, cursor)
        told.append(
            ColumnStatistics(
                name=column.name,
                nulls=rows - cells,
                distinct=min(distinct, cells),
                distinct_exact=exact or cells == 0,
                least=counted.least if column.place in short else None,
                most=counted.most if column.place in short else None,
                frequent=frequent,
            )
        )
    return tuple(told)


def _is_text(column: TypedColumn) -> bool:
    return column.kind in (ColumnKind.TEXT, ColumnKind.JSON)


def _shown(column: TypedColumn, value: str = "") -> str:
    text = text_sql(column, value)
    return f"left({text}, {_SHOWN})" if _is_text(column) else text


def _counts(
    columns: Sequence[TypedColumn], relation: str, cursor: duckdb.DuckDBPyConnection
) -> tuple[int, list[_Counted]]:
    """Of all columns, in one pass: how many rows, and what is counted of each."""
    sums, told = ["count(*) AS rows"], ["rows"]
    for column in columns:
        at, value = column.place, f"f{column.place}"
        least, most = ("NULL", "NULL") if column.kind is ColumnKind.JSON else (f"min({value})", f"max({value})")
        longest = f"max(strlen({value}))" if _is_text(column) else "0"
        sums += [f"count({value}) AS c{at}", f"approx_count_distinct({value}) AS d{at}", f"{longest} AS l{at}"]
        sums += [f"{least} AS a{at}", f"{most} AS z{at}"]
        told += [f"c{at}", f"d{at}", f"COALESCE(l{at}, 0)"]
        bounded = column.kind is not ColumnKind.JSON
        told += [_shown(column, name) if bounded else "NULL" for name in (f"a{at}", f"z{at}")]
    found = cursor.execute(f"SELECT {', '.join(told)} FROM (SELECT {', '.join(sums)} FROM {relation})").fetchone()
    assert found is not None
    return found[0], [_Counted(*found[at : at + 5]) for at in range(1, len(found), 5)]


def _exact(
    column: TypedColumn, relation: str, cursor: duckdb.DuckDBPyConnection
) -> tuple[int, tuple[tuple[str, int], ...]]:
    value = f"f{column.place}"
    counted = (
        f"SELECT {value}, count(*) AS n, count(*) OVER () AS different FROM {relation} "
        f"WHERE {value} IS NOT NULL GROUP BY 1"
    )
    found = cursor.execute(
        f"SELECT {_shown(column)}, n, different FROM ({counted} ORDER BY n DESC, {value} LIMIT {FREQUENT})"
    ).fetchall()
    return (found[0][2] if found else 0), tuple((text, count) for text, count, _ in found if found[0][1] > 1)


def _candidates(column: TypedColumn, relation: str, cursor: duckdb.DuckDBPyConnection) -> tuple[tuple[str, int], ...]:
    value = f"f{column.place}"
    found = cursor.execute(
        f"SELECT {_shown(column)}, n FROM (SELECT {value}, count(*) AS n FROM {relation} WHERE {value} IN "
        f"(SELECT unnest(approx_top_k({value}, {FREQUENT})) FROM {relation}) GROUP BY 1) ORDER BY n DESC, {value}"
    ).fetchall()
    return tuple((text, count) for text, count in found if count > 1)
