"""Closing does not wait for a call that nobody waits for, and does not fail because of it."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import duckdb

from penstock.runtime.parquet_files import ParquetFiles

# Takes minutes.
LONG = "SELECT count(*) FROM range(100000000) a, range(1000) b WHERE a.range % 7 = b.range"


def test_a_call_that_goes_on_is_interrupted_by_the_close(tmp_path: Path) -> None:
    files = ParquetFiles(tmp_path, memory="256MB", spill=tmp_path / "spill" / "of-this", what="a test")
    begun, ended = threading.Event(), threading.Event()

    def read() -> None:
        with contextlib.suppress(duckdb.InterruptException), files.cursor() as cursor:
            begun.set()
            cursor.execute(LONG).fetchall()
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert begun.wait(20)
    files.close()
    thread.join(20)
    assert ended.is_set()


def test_it_opens_again_after_a_close(tmp_path: Path) -> None:
    files = ParquetFiles(tmp_path, memory="256MB", spill=tmp_path / "spill" / "of-this", what="a test")
    for _ in range(2):
        began = time.monotonic()
        with files.cursor() as cursor:
            assert cursor.execute("SELECT 1").fetchall() == [(1,)]
        files.close()
        assert time.monotonic() - began < 10
