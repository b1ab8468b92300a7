"""Snapshots for the tests of the sandbox, made with DuckDB: a catalog with odd names, and results of runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from planner.domain.schema import Column, ColumnKind, Schema
from planner.sandbox.tables import Table

__all__ = ["COUNT", "SCHEMA", "tables"]

COUNT = 1_000
SCHEMA = Schema(
    columns=(
        Column("Brand", ColumnKind.TEXT),
        Column("model", ColumnKind.TEXT),
        Column("price", ColumnKind.NUMBER),
        Column("stock", ColumnKind.WHOLE),
        Column("seen", ColumnKind.TIME),
        Column("odd \"name\" 'with' ; -- it all", ColumnKind.TEXT),
        Column("", ColumnKind.TEXT),
        Column("brand", ColumnKind.TEXT),
        Column("größe", ColumnKind.TEXT),
    ),
    key=("model",),
    group="Brand",
    sort=("Brand", "model"),
)
_ITEMS = f"""
    SELECT 'm' || i AS key, 'B' || i % 7 AS "group", to_json({{'model': 'm' || i}})::VARCHAR AS payload,
        'B' || i % 7 AS f0, 'm' || i AS f1, CASE WHEN i % 10 > 0 THEN i / 4.0 END AS f2, i AS f3,
        TIMESTAMP '2026-01-01' + to_hours(i) AS f4, 'odd' || i % 3 AS f5, 'no name' AS f6, 'lower' AS f7, 'g' AS f8,
        'b' || i % 7 AS s0, 'm' || length(i::VARCHAR) || i AS s1
    FROM range({COUNT}) t(i) ORDER BY i
"""
_RESULTS = f"""
    SELECT 'm' || i AS key, 'labels' AS processor, CASE WHEN i % 4 = 0 THEN 'failed' ELSE 'completed' END AS state,
        CASE WHEN i % 4 > 0 THEN (i % 100) / 100.0 END AS confidence
    FROM range(0, {COUNT}, 2) t(i) ORDER BY i
"""


def tables(folder: Path) -> Mapping[str, Table]:
    """`items`, also as `my catalog`, and `results`; writes their files."""
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        for name, sql in (("items", _ITEMS), ("results", _RESULTS)):
            connection.execute(f"COPY ({sql}) TO '{folder / name}' (FORMAT parquet)").fetchall()
    items = Table.of(folder / "items", SCHEMA)
    columns = ("key", "processor", "state", "confidence")
    return {
        "items": items,
        "my catalog": items,
        "results": Table(folder / "results", [(name, name) for name in columns]),
    }
