"""Snapshots of tables for tests and benches, made by the contract of `planner.domain.schema`: small ones of any rows,
large ones of a catalog that DuckDB makes up, the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import orjson

from penstock.runtime.parquet_files import literal
from planner.domain.natural import natural_key
from planner.domain.schema import Column, ColumnKind, Schema
from planner.natural_sql import natural_sql

__all__ = ["CATALOG", "GROUPS", "Rows", "write_catalog", "write_rows", "write_snapshot"]

Rows = Sequence[Mapping[str, object]]
"""Values by column; a time is milliseconds since the epoch, JSON is its text, what is missing is null."""

TYPES = {
    ColumnKind.TEXT: "VARCHAR",
    ColumnKind.WHOLE: "BIGINT",
    ColumnKind.NUMBER: "DOUBLE",
    ColumnKind.BOOLEAN: "BOOLEAN",
    ColumnKind.TIME: "TIMESTAMP_MS",
    ColumnKind.JSON: "VARCHAR",
}
WRITE = "FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE 20480"
GROUPS = 400


def _column(name: str, kind: ColumnKind) -> Column:
    return Column(name, kind)


CATALOG = Schema(
    columns=(
        _column("product_id", ColumnKind.TEXT),
        _column("brand", ColumnKind.TEXT),
        _column("model", ColumnKind.TEXT),
        _column("variant", ColumnKind.TEXT),
        _column("price", ColumnKind.NUMBER),
        _column("stock", ColumnKind.WHOLE),
        _column("rating", ColumnKind.NUMBER),
        _column("active", ColumnKind.BOOLEAN),
        _column("added", ColumnKind.TIME),
        _column("state", ColumnKind.TEXT),
        _column("url", ColumnKind.TEXT),
        _column("note", ColumnKind.TEXT),
    ),
    key=("product_id",),
    group="brand",
    sort=("brand", "model", "variant"),
)


def _made_up() -> Mapping[str, str]:
    """What a product numbered i has in each column of the catalog."""
    r = "(hash(i * 7919 + {}) >> 2)::BIGINT"
    words = "['silent', 'gaming', 'office', 'compact', 'white', 'carbon', 'limited edition', 'refurbished']"
    return {
        "product_id": "'P' || i * 7 % 99999989 || '-' || i",
        "brand": f"'Brand ' || (1 + ({r.format(1)} % 1000) * ({r.format(2)} % 1000) // (1000000 // {GROUPS}))",
        "model": f"['Viper', 'Basilisk', 'Orbit', 'Naga'][1 + {r.format(3)} % 4] || ' V' || ({r.format(4)} % 120)",
        "variant": f"[NULL, 'Black', 'White', 'Ärmel', 'red', 'Black', 'Navy'][1 + {r.format(6)} % 7]",
        "price": f"CASE WHEN {r.format(7)} % 20 > 0 THEN ({r.format(8)} % 50000) / 100 END",
        "stock": f"({r.format(9)} % 5000)::BIGINT",
        "rating": f"({r.format(10)} % 50) / 10",
        "active": f"{r.format(11)} % 3 > 0",
        "added": f"epoch_ms(1600000000000 + ({r.format(12)} % 100000000)::BIGINT * 1000)::TIMESTAMP_MS",
        "state": f"['open', 'closed', 'waiting'][1 + {r.format(13)} % 3]",
        "url": f"'https://shop-' || ({r.format(14)} % 50) || '.example/p/' || i",
        "note": f"{words}[1 + {r.format(15)} % 8] || ' ' || {words}[1 + {r.format(16)} % 8] || ' no. ' || i % 1000",
    }


def write_rows(place: Path, count: int) -> None:
    """The products of `write_catalog` as their owner has them: a Parquet file with these columns and no others."""
    made = ", ".join(f"{made} AS {name}" for name, made in _made_up().items())
    with duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}) as connection:
        connection.execute(f"COPY (SELECT {made} FROM range({count}) AS t(i)) TO {literal(place)} (FORMAT parquet)")


def write_catalog(place: Path, count: int, *, memory: str = "1GB") -> None:
    """`count` products in no order, of GROUPS brands of very different size."""
    columns = _made_up()
    made = ", ".join(f"{made} AS f{at}" for at, made in enumerate(columns.values()))
    texts = [f"coalesce(f{at}, '')" for at in (1, 2, 3)]
    sort = ", ".join(f"{natural_sql(text)} AS s{number}" for number, text in enumerate(texts))
    fields = ", ".join(f"{name} := f{at}" for at, name in enumerate(columns))
    with duckdb.connect(config={"threads": 2, "memory_limit": memory}) as connection:
        payload = f"json_merge_patch(to_json(struct_pack({fields})), '{{}}')::VARCHAR"  # without nulls
        connection.execute(
            f'COPY (SELECT f0 AS key, f1 AS "group", {payload} AS payload, *, {sort} '
            f"FROM (SELECT {made} FROM range({count}) AS t(i))) TO {literal(place)} ({WRITE})"
        )


def write_snapshot(place: Path, schema: Schema, rows: Rows) -> None:
    """`rows` in their order, with keys of their key columns."""
    types = [("key", "VARCHAR"), ("group", "VARCHAR"), ("payload", "VARCHAR")]
    types += [(f"f{at}", TYPES[column.kind]) for at, column in enumerate(schema.columns)]
    types += [(f"s{at}", "VARCHAR") for at in range(len(schema.sort))]
    # The connection of the process: tests write many of these.
    duckdb.execute("CREATE OR REPLACE TEMP TABLE rows (" + ", ".join(f'"{name}" {kind}' for name, kind in types) + ")")
    if rows:
        duckdb.executemany(
            f"INSERT INTO rows VALUES ({', '.join('?' * len(types))})", [_stored(schema, row) for row in rows]
        )
    duckdb.execute(f"COPY rows TO {literal(place)} ({WRITE})")


def _stored(schema: Schema, row: Mapping[str, object]) -> list[object]:
    payload = {column.name: row.get(column.name) for column in schema.columns if row.get(column.name) is not None}
    values: list[object] = []
    for column in schema.columns:
        value = row.get(column.name)
        if column.kind is ColumnKind.TIME and isinstance(value, int):
            value = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None) + timedelta(milliseconds=value)
        values.append(value)
    key = "/".join(_text(row.get(name)) for name in schema.key)
    group = _text(row.get(schema.group)) if schema.group else ""
    sort = [natural_key(_text(row.get(name))) for name in schema.sort]
    return [key, group, orjson.dumps(payload).decode(), *values, *sort]


def _text(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
