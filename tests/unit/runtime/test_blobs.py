"""A blob is whole or not there, and a write that fails leaves nothing behind. Fails by a real bound on file sizes."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import Unavailable


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(store: BlobStore) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [40_000, 400_000], ids=["while it is completed", "while it is written"])
def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, size: int) -> None:
    store = BlobStore(tmp_path)
    with files_of_at_most(30_000), pytest.raises(Unavailable, match="File too large"):
        store.put_many([b"a" * 1_000, b"b" * 2_000, b"c" * size, b"d"])
    assert files(store) == []


def test_a_source_of_blobs_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    store = BlobStore(tmp_path)
    with pytest.raises(ZeroDivisionError):
        store.put_many(broken())
    assert files(store) == []


def test_a_blob_in_pieces_that_fails_is_gone_although_bytes_wait_to_be_written(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    writer = store.writer()
    writer.write(b"a" * 40_000)
    with files_of_at_most(30_000), pytest.raises(Unavailable):
        writer.write(b"b" * 40_000)
    assert files(store) == []


def test_what_killed_writers_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    (sha256,) = [ref.sha256 for ref in store.put_many([b"kept"])]
    left, busy = store.writer(), store.writer()
    os.utime(left.place, (time.time() - 3_700,) * 2)
    assert store.clean() == 1
    assert set(files(store)) == {busy.place, store.path(sha256)}
    busy.discard()
