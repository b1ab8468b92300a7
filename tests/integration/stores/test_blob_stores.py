"""What every blob store holds, over a folder and over S3."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.runtime.blobs import BlobFile, BlobStore
from penstock.runtime.blobs_s3 import S3BlobStore
from penstock.runtime.errors import InvalidInput, NotFound, PenstockError, Unavailable
from tests.servers.s3 import S3Server

LARGE = os.urandom(1 << 20) * 20
"""Goes up in three parts."""
ABSENT = "0" * 64


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_there(store: BlobStore, name: str) -> bool:
    try:
        store.get(name)
    except NotFound:
        return False
    return True


def test_what_is_put_is_had_by_every_way(store: BlobStore) -> None:
    blobs = [b"", b"a", b"b" * 100_000, b"a"]
    refs = store.put_many(iter(blobs))
    assert [(ref.sha256, ref.size_bytes) for ref in refs] == [(sha256(data), len(data)) for data in blobs]
    assert [store.get(ref.sha256) for ref in refs] == blobs
    assert store.get_each([ref.sha256 for ref in refs]) == blobs
    for ref, data in zip(refs, blobs, strict=True):
        assert store.path(ref.sha256).read_bytes() == data
        with store.open(ref.sha256) as file:
            assert os.fstat(file.fileno()).st_size == len(data)
            assert file.read() == data
    assert store.put_many(blobs) == refs


def test_hundreds_are_put_and_had_in_order(store: BlobStore) -> None:
    blobs = [b"%d" % number for number in range(300)]
    hashes = [ref.sha256 for ref in store.put_many(blobs)]
    assert store.get_each(hashes[::-1]) == blobs[::-1]


def test_what_is_not_there_is_not_found_and_takes_nothing_from_its_neighbours(store: BlobStore) -> None:
    ref = store.put(b"here")
    with pytest.raises(NotFound, match=f"no blob {ABSENT}"):
        store.get(ABSENT)
    with pytest.raises(NotFound):
        store.open(ABSENT)
    here, absent = store.get_each([ref.sha256, ABSENT])
    assert here == b"here"
    assert isinstance(absent, NotFound)
    assert absent.code == "blob_not_found"
    assert store.written_ns(ABSENT) is None


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_a_name_that_is_no_hash_is_refused(store: BlobStore, name: str) -> None:
    for ask in (store.get, store.open, store.path, store.remove):
        with pytest.raises(InvalidInput):
            ask(name)
    (answer,) = store.get_each([name])
    assert isinstance(answer, PenstockError)


def test_a_blob_in_pieces_is_there_when_it_is_kept_and_not_before(store: BlobStore) -> None:
    with store.writer() as writer:
        for first in range(0, len(LARGE), 1 << 20):
            writer.write(LARGE[first : first + (1 << 20)])
        assert not is_there(store, sha256(LARGE))
        (ref,) = store.keep([writer])
    assert (ref.sha256, ref.size_bytes) == (sha256(LARGE), len(LARGE))
    assert store.get(ref.sha256) == LARGE
    assert store.path(ref.sha256).read_bytes() == LARGE


def test_a_blob_that_is_discarded_never_was(store: BlobStore) -> None:
    with store.writer() as writer:
        writer.write(b"never")
        writer.finish()
    assert not is_there(store, sha256(b"never"))
    assert list((store.folder / ".tmp").iterdir()) == []


def test_a_complete_file_becomes_a_blob_as_it_is(store: BlobStore) -> None:
    place = store.folder / ".complete"
    place.write_bytes(LARGE)
    inode = place.stat().st_ino
    (ref,) = store.keep([BlobFile(place)])
    assert (ref.sha256, ref.size_bytes) == (sha256(LARGE), len(LARGE))
    assert not place.exists()
    path = store.path(ref.sha256)
    assert (path.read_bytes(), path.stat().st_ino) == (LARGE, inode)


def test_files_are_adopted_and_leave_where_they_lay(store: BlobStore) -> None:
    files = []
    for number in range(40):
        file = store.folder / f".{number}"
        file.write_bytes(b"%d" % number)
        files.append((file, sha256(b"%d" % number)))
    store.adopt(files)
    assert not any(file.exists() for file, _ in files)
    assert store.get_each([name for _, name in files]) == [b"%d" % number for number in range(40)]
    store.adopt([])


def test_blobs_whose_source_fails_are_each_whole_or_not_there(store: BlobStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"first"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.put_many(broken())
    assert not is_there(store, sha256(b"first"))


def test_what_was_looked_at_is_removed_and_what_was_written_since_is_not(store: BlobStore) -> None:
    ref = store.put(b"going")
    seen = store.written_ns(ref.sha256)
    assert seen is not None
    assert not store.remove(ref.sha256, written_ns=seen - 5_000_000_000)
    assert store.get(ref.sha256) == b"going"
    assert store.remove(ref.sha256, written_ns=seen)
    assert not is_there(store, ref.sha256)
    store.remove(ref.sha256)


def test_a_blob_that_is_removed_can_come_again(store: BlobStore) -> None:
    ref = store.put(b"again")
    assert store.path(ref.sha256).read_bytes() == b"again"
    store.remove(ref.sha256)
    gc.collect()
    store.put(b"again")
    assert store.path(ref.sha256).read_bytes() == b"again"


def kept_at(store: BlobStore, request: pytest.FixtureRequest, name: str) -> Path:
    if not isinstance(store, S3BlobStore):
        return store.path(name)
    server: S3Server = request.getfixturevalue("s3_server")
    return server.object(f"{store.bucket.place.prefix}/{name[:2]}/{name[2:]}")


def test_a_blob_that_is_not_what_its_name_says_is_never_handed_out(
    store: BlobStore, request: pytest.FixtureRequest
) -> None:
    ref = store.put(b"right")
    kept_at(store, request, ref.sha256).write_bytes(b"wrong")
    with pytest.raises(Unavailable) as caught:
        store.get(ref.sha256)
    assert caught.value.code == "blob_damaged"
    if isinstance(store, S3BlobStore):
        with pytest.raises(Unavailable, match="is damaged"):
            store.path(ref.sha256)
    assert list((store.folder / ".tmp").iterdir()) == []


def test_a_store_that_works_says_so(store: BlobStore) -> None:
    store.check_writing()
    store.check()
    assert store.clean() == 0
