"""A version's id: SHA-256 over its schema and its decoded rows in order.

What is hashed does not depend on the file, its format, the order of its columns or the version of Parquet: the schema
with its columns by name, then every row's payload, which holds all that is not null in one form. Payloads are JSON
without line feeds, so nothing but the same rows gives the same bytes. Read as a stream, one row group after another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import duckdb
import orjson

from penstock.runtime.parquet_files import literal
from planner.domain.schema import Schema

__all__ = ["Identity", "identify"]

_BATCH = 4_096
_HEX = 32


@dataclass(frozen=True)
class Identity:
    """largest: bytes of the largest payload."""

    version_id: str
    rows: int
    largest: int


def identify(schema: Schema, snapshot: Path, cursor: duckdb.DuckDBPyConnection) -> Identity:
    """Raises duckdb.Error."""
    values = schema.values()
    values["columns"] = sorted(values["columns"])
    digest = hashlib.sha256(b"table 1\n" + orjson.dumps(values, option=orjson.OPT_SORT_KEYS) + b"\n")
    count = largest = 0
    found = cursor.execute(f"SELECT payload FROM read_parquet({literal(snapshot.resolve())})")
    while rows := found.fetchmany(_BATCH):
        count += len(rows)
        texts = [row[0] for row in rows]
        data = "\n".join(texts).encode()
        digest.update(data + b"\n")
        largest = max(largest, len(max(texts, key=len)))
    return Identity(f"source-{digest.hexdigest()[:_HEX]}", count, largest)
