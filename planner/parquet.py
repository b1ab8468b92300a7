"""Snapshots and plans as Parquet files, written and read by DuckDB.

A snapshot has the columns key, group, payload (JSON text) in the source's order; a plan has stage and seq before them.
DuckDB is loaded on first use (a planner that only waits stays small), has one thread and bounded memory, and may open
files in the blob folder alone (it compares resolved paths, so those are what it is given). Cursors are made per call,
so calls from several threads are safe.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.runtime.disk import disk_full
from penstock.runtime.errors import Unavailable
from planner.domain.rows import MAX_PAYLOAD_BYTES

if TYPE_CHECKING:
    import duckdb

__all__ = ["BLOCK_ROWS", "ItemTuple", "Parquet"]

ItemTuple = tuple[int, str, str, bytes]
"""seq, key, group, payload."""

BLOCK_ROWS = 10_240
"""Rows of a row group, and of a block that is read at once: a multiple of DuckDB's vector of 2,048."""

_MEMORY = "256MB"
_WRITE = f"FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {BLOCK_ROWS}, ROW_GROUP_SIZE_BYTES '16MB'"
_ROWS = (
    "read_json($rows, format='newline_delimited', "
    "columns={key: 'VARCHAR', \"group\": 'VARCHAR', payload: 'VARCHAR'}, "
    f"maximum_object_size={4 * MAX_PAYLOAD_BYTES})"
)


class Parquet:
    def __init__(self, folder: Path) -> None:
        """`folder` is the blob store's; nothing outside it can be read or written."""
        self._folder = folder.resolve()
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None

    def write_snapshot(self, rows: Path, place: Path) -> None:
        """`rows` are lines of `planner.domain.rows`; makes the file `place`."""
        with self._cursor() as cursor:
            cursor.execute(
                f'COPY (SELECT key, "group", payload FROM {_ROWS}) TO {_text(place.resolve())} ({_WRITE})',
                {"rows": str(rows.resolve())},
            )

    def write_plan(self, snapshot: Path, place: Path, later: Sequence[tuple[int, int, str, str, str]]) -> None:
        """Stage 0 is the snapshot in its order; `later` are the later stages' (stage, seq, key, group, payload)."""
        values = "".join(
            f" UNION ALL SELECT {stage}, {seq}, {_text(key)}, {_text(group)}, {_text(payload)}"
            for stage, seq, key, group, payload in later
        )
        with self._cursor() as cursor:
            cursor.execute(
                'COPY (SELECT 0::INTEGER AS stage, file_row_number AS seq, key, "group", payload '
                f"FROM read_parquet($snapshot, file_row_number = true){values}) TO {_text(place.resolve())} ({_WRITE})",
                {"snapshot": str(snapshot.resolve())},
            )

    def read_items(self, plan: Path, *, stage: int, first: int, end: int) -> list[ItemTuple]:
        """Items of a stage with first <= seq < end, in order."""
        with self._cursor() as cursor:
            return cursor.execute(
                'SELECT seq, key, "group", encode(payload) FROM read_parquet($plan) '
                "WHERE stage = $stage AND seq >= $first AND seq < $end ORDER BY seq",
                {"plan": str(plan.resolve()), "stage": stage, "first": first, "end": end},
            ).fetchall()

    def has_duplicates(self, snapshot: Path) -> bool:
        """Whether a key stands twice in the snapshot."""
        with self._cursor() as cursor:
            found = cursor.execute(
                "SELECT 1 FROM read_parquet($snapshot) GROUP BY key HAVING count(*) > 1 LIMIT 1",
                {"snapshot": str(snapshot.resolve())},
            ).fetchone()
        return found is not None

    def duplicates(self, rows: Path, *, most: int) -> list[tuple[int, int, str]]:
        """Of keys that stand twice in `rows`: second row, first row (from 0), key; in order of the first rows."""
        with self._cursor() as cursor:
            found = cursor.execute(
                f"WITH r AS (SELECT row_number() OVER () - 1 AS row, key FROM {_ROWS}), "
                "twice AS (SELECT key, min(row) AS first FROM r GROUP BY key HAVING count(*) > 1 "
                f"ORDER BY first LIMIT {most}) SELECT min(r.row), t.first, t.key FROM r "
                "JOIN twice AS t ON r.key = t.key AND r.row > t.first GROUP BY t.first, t.key ORDER BY 2",
                {"rows": str(rows.resolve())},
            ).fetchall()
        return [(second, first, key) for second, first, key in found]

    def warm(self) -> None:
        """Loads DuckDB now."""
        with self._cursor() as cursor:
            cursor.execute("SELECT 1")

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        with self._lock:
            if self._connection is None:
                self._connection = _connect(self._folder)
            cursor = self._connection.cursor()
        try:
            yield cursor
        except duckdb.IOException as error:
            text = str(error)
            if "No space left" in text or "disk quota" in text.lower():
                raise disk_full(f"the blob store {self._folder}") from error
            raise Unavailable(
                f"a file of the blob store can't be read or written: {text.splitlines()[0]}",
                code="blob_store_unavailable",
            ) from error
        finally:
            cursor.close()


def _connect(folder: Path) -> duckdb.DuckDBPyConnection:
    import duckdb

    spill = folder / ".planner"
    spill.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "memory_limit": _MEMORY,
            "temp_directory": str(spill / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    connection.execute(f"SET allowed_directories = [{_text(folder)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _text(value: object) -> str:
    """An SQL literal: COPY takes no parameters for its target."""
    return "'" + str(value).replace("'", "''") + "'"
