"""Local copies of blobs in S3: bounded, shared, and never taken from who uses one."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from penstock.runtime.blob_cache import BlobCache, HeldPath
from penstock.runtime.blobs_s3 import S3BlobStore
from tests.integration.stores.conftest import MIB, s3_store
from tests.servers.s3 import S3Server

BOUND = 8 * MIB


def copies(store: S3BlobStore) -> dict[str, int]:
    """Hash -> size of what lies in its cache."""
    return {
        file.parent.name + file.name: file.stat().st_size
        for file in store.folder.glob("[0-9a-f][0-9a-f]/*")
        if file.is_file()
    }


@pytest.fixture
def store(s3_server: S3Server, s3_keys: None, tmp_path: Path) -> S3BlobStore:
    return s3_store(s3_server, tmp_path / "blobs", cache_bytes=BOUND)


def some(store: S3BlobStore, count: int) -> list[str]:
    return [ref.sha256 for ref in store.put_many(os.urandom(MIB) for _ in range(count))]


def test_copies_keep_to_their_bound_and_the_one_used_last_stays(store: S3BlobStore) -> None:
    hashes = some(store, 12)
    first = hashes[0]
    for name in hashes:
        store.path(name)
        store.path(first)
        gc.collect()
        assert sum(copies(store).values()) <= BOUND
        assert first in copies(store)
    assert hashes[-1] in copies(store)
    assert hashes[1] not in copies(store)


def test_a_file_in_use_stays_whatever_comes(store: S3BlobStore) -> None:
    hashes = some(store, 12)
    used = [store.path(name) for name in hashes[:10]]
    for name in hashes[10:]:
        store.path(name)
    assert set(copies(store)) >= set(hashes[:10])
    assert [path.stat().st_size for path in used] == [MIB] * 10
    del used
    store._cache.make_room()
    assert sum(copies(store).values()) <= BOUND


def test_what_another_process_uses_stays_until_it_has_ended(
    store: S3BlobStore, s3_server: S3Server, tmp_path: Path
) -> None:
    (used, *others) = some(store, 12)
    program = """
import sys
from pathlib import Path
from penstock.runtime.blobs_s3 import S3BlobStore
from penstock.runtime.s3 import S3Place
url, endpoint, folder, name = sys.argv[1:]
store = S3BlobStore(S3Place.of(url, endpoint=endpoint, region="us-east-1"), Path(folder), cache_bytes=1 << 23)
path = store.path(name)
print(path, flush=True)
sys.stdin.read()
"""
    url = f"s3://{s3_server.bucket}/{store.bucket.place.prefix}"
    arguments = [sys.executable, "-c", program, url, s3_server.url, str(tmp_path / "blobs"), used]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        place = Path(process.stdout.readline().strip())
        assert place.parent.parent == store.folder, "both have one cache"
        for name in others:
            store.path(name)
        assert place.exists()
        process.kill()
        process.wait()
    some_more = some(store, 9)
    for name in some_more:
        store.path(name)
    assert not place.exists()


def test_a_copy_that_its_machine_lost_is_brought_again(store: S3BlobStore) -> None:
    ref = store.put(b"whole" * 1_000)
    place = Path(str(store.path(ref.sha256)))
    gc.collect()
    place.write_bytes(b"")
    again = S3BlobStore(store.bucket.place, store.folder.parent, cache_bytes=BOUND)
    assert again.path(ref.sha256).read_bytes() == b"whole" * 1_000


def test_many_who_want_one_file_bring_it_once(store: S3BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = some(store, 1)
    asked: list[str] = []
    download = store.bucket.download

    def counted(key: str, file: Path) -> None:
        asked.append(key)
        download(key, file)

    monkeypatch.setattr(store.bucket, "download", counted)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(store.path(name))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert len({str(path) for path in found}) == 1
    assert len(found) == 8


def test_a_folder_of_blobs_is_never_taken_for_copies(s3_server: S3Server, s3_keys: None, tmp_path: Path) -> None:
    from penstock.runtime.blobs import BlobStore

    plain = BlobStore(tmp_path / "blobs")
    kept = [ref.sha256 for ref in plain.put_many(os.urandom(MIB) for _ in range(3))]
    store = s3_store(s3_server, tmp_path / "blobs", cache_bytes=MIB)
    for name in some(store, 3):
        store.path(name)
    assert [len(plain.get(name)) for name in kept] == [MIB] * 3


def test_who_opens_while_another_removes_gets_the_file_or_none(tmp_path: Path) -> None:
    """By threads that do nothing else: a path that is handed out has its file."""
    cache = BlobCache(tmp_path, 10)
    place = tmp_path / "ab" / ("c" * 62)
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            cache.remove(place)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for number in range(300):
            file = tmp_path / f".{number}"
            file.write_bytes(b"x")
            kept: HeldPath | None = cache.keep(file, place)
            assert kept is not None
            assert kept.read_bytes() == b"x"
            kept = None
            found = cache.held(place)
            if found is not None:
                assert found.read_bytes() == b"x"
            found = None
    finally:
        stop.set()
        remover.join()
