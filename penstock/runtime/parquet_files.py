"""DuckDB over the Parquet files of one folder: loaded on first use, few threads, bounded memory, no other file.

It compares resolved paths, so those are what it must be given. Cursors are made per call: calls from several threads
are safe. Raises Unavailable when the disk is full, memory does not do, or a file can't be used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.runtime.disk import disk_full
from penstock.runtime.errors import Unavailable

if TYPE_CHECKING:
    import duckdb

__all__ = ["ParquetFiles", "literal"]

CLOSE_SECONDS = 10.0


class ParquetFiles:
    """`memory` as DuckDB says it; `spill` is where it may put what does not fit; `what` names a file in an error.
    every_error: whatever DuckDB raises means that a file can't be used, not only what it calls an IO error."""

    def __init__(
        self, folder: Path, *, memory: str, spill: Path, what: str, every_error: bool = False, threads: int = 1
    ) -> None:
        self._folder = folder
        self._memory = memory
        self._spill = spill
        self._what = what
        self._every_error = every_error
        self._threads = threads
        self._lock = threading.Condition()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._cursors: set[duckdb.DuckDBPyConnection] = set()

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            cursor = self._connection.cursor()
            self._cursors.add(cursor)
        try:
            yield cursor
        except duckdb.OutOfMemoryException as error:
            raise Unavailable(f"{self._memory} of memory are too little for this", code="too_little_memory") from error
        except duckdb.Error as error:
            if not self._every_error and not isinstance(error, duckdb.IOException):
                raise
            text = str(error)
            if "No space left" in text or "disk quota" in text.lower():
                raise disk_full(f"the blob store {self._folder}") from error
            raise Unavailable(
                f"a file of {self._what} can't be read or written: {text.splitlines()[0]}",
                code="blob_store_unavailable",
            ) from error
        finally:
            with self._lock:
                cursor.close()  # in here: `close` may not interrupt one that is closed
                self._cursors.discard(cursor)
                self._lock.notify_all()

    def close(self) -> None:
        """Interrupts what reads or writes still (a call whose caller has gone goes on in its thread), and closes."""
        with self._lock:
            until = time.monotonic() + CLOSE_SECONDS
            while self._cursors and time.monotonic() < until:
                for cursor in self._cursors:
                    cursor.interrupt()  # for nothing where a query is about to begin: hence again
                self._lock.wait(0.1)
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connect(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        self._spill.parent.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(
            ":memory:",
            config={
                "threads": self._threads,
                "memory_limit": self._memory,
                "temp_directory": str(self._spill),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        connection.execute(f"SET allowed_directories = [{literal(self._folder)}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return connection


def literal(value: object) -> str:
    """An SQL literal: COPY takes no parameters for its target."""
    return "'" + str(value).replace("'", "''") + "'"
