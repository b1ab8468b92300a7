"""What a person wants to know of a column: how many nulls and different values, the least, the most, the most frequent.

Exact where that is cheap: in small tables, and for columns with at most EXACT_VALUES different values. Else the number
of different values is estimated (HyperLogLog, within a few percent), and the frequent values are the exactly counted
candidates of an approximate count. Long texts have neither least nor frequent values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from penstock.runtime.parquet_files import literal
from planner.domain.schema import ColumnKind
from planner.tables.profile import TypedColumn
from planner.tables.snapshot import text_sql
from planner.tables.wanted import ColumnStatistics

__all__ = ["EXACT_ROWS", "EXACT_VALUES", "statistics"]

EXACT_ROWS = 100_000
EXACT_VALUES = 10_000
FREQUENT = 5
_SHOWN = 200
"""Characters of a value."""
_LONG_BYTES = 1_000
_WIDE = 500
"""Of a table with more columns only the counts are taken."""


def statistics(
    columns: Sequence[TypedColumn], snapshot: Path, cursor: duckdb.DuckDBPyConnection
) -> tuple[ColumnStatistics, ...]:
    """One for each column. Raises duckdb.Error."""
    relation = f"read_parquet({literal(snapshot.resolve())})"
    sums = ["count(*)"]
    for column in columns:
        value = f"f{column.place}"
        length = f"max(strlen({value}))" if _is_text(column) else "0"
        sums += [f"count({value})", f"approx_count_distinct({value})", length]
    found = cursor.execute(f"SELECT {', '.join(sums)} FROM {relation}").fetchone()
    assert found is not None
    rows, counts = found[0], [found[at : at + 3] for at in range(1, len(found), 3)]
    short = {
        column.place for column, (_, _, longest) in zip(columns, counts, strict=True) if (longest or 0) <= _LONG_BYTES
    }
    least, most = (_bounds(columns, short, relation, name, cursor) for name in ("min", "max"))
    told = []
    for column, (cells, distinct, _) in zip(columns, counts, strict=True):
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
                least=least.get(column.place),
                most=most.get(column.place),
                frequent=frequent,
            )
        )
    return tuple(told)


def _is_text(column: TypedColumn) -> bool:
    return column.kind in (ColumnKind.TEXT, ColumnKind.JSON)


def _shown(column: TypedColumn) -> str:
    text = text_sql(column)
    return f"left({text}, {_SHOWN})" if _is_text(column) else text


def _bounds(
    columns: Sequence[TypedColumn], short: set[int], relation: str, function: str, cursor: duckdb.DuckDBPyConnection
) -> dict[int, str]:
    wanted = [column for column in columns if column.place in short and column.kind is not ColumnKind.JSON]
    if not wanted:
        return {}
    bounds = ", ".join(f"{function}(f{column.place}) AS f{column.place}" for column in wanted)
    texts = ", ".join(_shown(column) for column in wanted)
    found = cursor.execute(f"SELECT {texts} FROM (SELECT {bounds} FROM {relation})").fetchone() or ()
    return {column.place: value for column, value in zip(wanted, found, strict=True) if value is not None}


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
