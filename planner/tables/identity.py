"""A version's id: SHA-256 over its schema and its decoded rows in order.

What is hashed does not depend on the file, its format, the order of its columns or the version of Parquet: the schema
with its columns by name, then every row's payload, which holds all that is not null in one form. Payloads are JSON
without line feeds, so nothing but the same rows gives the same bytes.

DuckDB writes the payloads as lines into a pipe, and the hash is taken of what comes out: as objects of Python ten
million rows took twice as long. The pipe lies beside the snapshot, and goes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import orjson

from penstock.runtime.parquet_files import literal
from planner.domain.schema import Schema

__all__ = ["Identity", "identify"]

_PIPE_BYTES = 1 << 20
_HEX = 32
_LINES = "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x1f', USE_TMP_FILE false"
"""Of COPY: a value is a line as it stands. In JSON neither the delimiter nor a line feed stands unescaped."""


@dataclass(frozen=True)
class Identity:
    """large: whether any payload may have more bytes than were asked for."""

    version_id: str
    rows: int
    large: bool


def identify(schema: Schema, snapshot: Path, cursor: duckdb.DuckDBPyConnection, *, large_bytes: int) -> Identity:
    """Raises duckdb.Error."""
    values = schema.values()
    values["columns"] = sorted(values["columns"])
    digest = hashlib.sha256(b"table 1\n" + orjson.dumps(values, option=orjson.OPT_SORT_KEYS) + b"\n")
    payloads = f"SELECT payload FROM read_parquet({literal(snapshot.resolve())})"
    pipe = snapshot.with_name(f"{snapshot.name}.lines")
    os.mkfifo(pipe)
    # Both ends are open before DuckDB opens its own: so neither side waits for one that never comes.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(pipe, os.O_WRONLY)
    os.set_blocking(reader, True)
    with ThreadPoolExecutor(1) as pool:
        hashed = pool.submit(_hashed, reader, digest, large_bytes)
        try:
            found = cursor.execute(f"COPY ({payloads}) TO {literal(pipe.resolve())} ({_LINES})").fetchone()
        finally:
            os.close(writer)
            pipe.unlink()
    assert found is not None
    return Identity(f"source-{digest.hexdigest()[:_HEX]}", found[0], hashed.result())


def _hashed(reader: int, digest: Any, large_bytes: int) -> bool:
    """Takes all lines that come; whether one may be longer than `large_bytes`: it has a whole block for itself."""
    large = False
    with open(reader, "rb", buffering=_PIPE_BYTES) as lines:
        with suppress(OSError):  # a kernel may allow less
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        while block := lines.read(large_bytes // 2):
            digest.update(block)
            large = large or b"\n" not in block
    return large
