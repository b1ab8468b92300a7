"""The content-addressed blob store: bytes under the SHA-256 of what they are.

A blob is written to a temporary file beside its place and renamed onto it, so a reader sees all of it or nothing, and
two writers of the same bytes do no harm. `put_many` is durable when it returns: the file system is synced. A crash
leaves at most temporary files, which `clean` removes: the planner calls it now and then. `penstock.runtime.blobs_s3` is
the same store over S3; who has either knows no difference, but that `path` and all that reads may wait for a network.

This module is synchronous; callers on an event loop go through `asyncio.to_thread`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from penstock.runtime.disk import disk_full, is_full
from penstock.runtime.errors import InvalidInput, NotFound, PenstockError, Unavailable
from penstock.v1 import common_pb2

__all__ = ["STALE_SECONDS", "BlobFile", "BlobStore", "BlobWriter", "bad_hash", "blob_trouble", "is_blob_hash"]

_SYNCFS = ctypes.CDLL(None, use_errno=True).syncfs
_SHA256 = re.compile("[0-9a-f]{64}")
_TEMPORARY = ".tmp"
STALE_SECONDS = 3600.0
_OPEN_WRITERS = 128  # file descriptors held by one put_many


def is_blob_hash(text: str) -> bool:
    """Whether a blob may have this name: a SHA-256, in 64 lower-case hex digits."""
    return _SHA256.fullmatch(text) is not None


def bad_hash(text: str) -> InvalidInput:
    return InvalidInput(f"{text!r} is no blob hash: 64 lower-case hex digits are", code="bad_blob_hash")


def blob_trouble(error: OSError, folder: Path) -> Unavailable:
    """What the disk says of the blob store in `folder`, as the sentence that users get."""
    if is_full(error):
        return disk_full(f"the blob store {folder}")
    return Unavailable(f"the blob store {folder} can't be used: {error.strerror}", code="blob_store_unavailable")


class BlobStore:
    """Blobs in a folder: `ab/cdef…` (sharded by the first two hex digits)."""

    removes_what_it_saw = True
    """Whether `remove` with `written_ns` is safe against one that is written anew meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / _TEMPORARY).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise blob_trouble(error, folder) from error
        self._shards: set[str] = set()

    @property
    def told(self) -> str:
        """What it is called in messages."""
        return str(self.folder)

    def path(self, sha256: str) -> Path:
        """The blob as a file, for those who need one: it stays at least while this object is kept. Raises InvalidInput;
        a folder does not look whether it is there, S3 raises NotFound and Unavailable."""
        if not is_blob_hash(sha256):
            raise bad_hash(sha256)
        return self.folder / sha256[:2] / sha256[2:]

    def put(self, data: bytes) -> common_pb2.BlobRef:
        return self.put_many([data])[0]

    def put_many(self, blobs: Iterable[bytes]) -> list[common_pb2.BlobRef]:
        """Stores each; returns their refs in order. Raises Unavailable (disk_full, blob_store_unavailable)."""
        refs = []
        fresh: list[BlobWriter] = []
        try:
            for data in blobs:
                digest = hashlib.sha256(data).hexdigest()
                refs.append(common_pb2.BlobRef(sha256=digest, size_bytes=len(data)))
                if not self.path(digest).exists():
                    fresh.append(self.writer())
                    fresh[-1].write(data)
                if len(fresh) == _OPEN_WRITERS:
                    self.keep(fresh)
                    fresh.clear()
            self.keep(fresh)
        finally:
            for writer in fresh:
                writer.discard()  # of a kept one nothing is left to discard
        return refs

    def writer(self) -> BlobWriter:
        """A blob that arrives in pieces; `keep` makes it durable, `discard` forgets it."""
        try:
            return BlobWriter(self.folder / _TEMPORARY / secrets.token_hex(12), self.folder)
        except OSError as error:
            raise blob_trouble(error, self.folder) from error

    def keep(self, writers: Iterable[BlobWriter | BlobFile]) -> list[common_pb2.BlobRef]:
        """Makes all of them durable under their hashes. A failure leaves complete blobs or nothing."""
        files = []
        refs = []
        try:
            for writer in writers:
                ref = writer.finish()
                refs.append(ref)
                files.append((writer.place, ref.sha256))
        except OSError as error:
            raise blob_trouble(error, self.folder) from error
        self.adopt(files)
        return refs

    def adopt(self, files: Iterable[tuple[Path, str]]) -> None:
        """Renames files (path, hash) onto their places, durably: for uploads kept whole or not at all.

        The files lie inside the store's folder, are complete and hashed (`BlobWriter.finish`). One sync of the file
        system makes all their bytes durable before the first rename, one more the renames: seen here, 2,000 files
        took 0.1 s so, and 1 s with a sync for each.
        """
        chosen = list(files)
        if not chosen:
            return
        try:
            self._sync()
            for file, sha256 in chosen:
                place = self.path(sha256)
                if place.parent.name not in self._shards:
                    place.parent.mkdir(exist_ok=True)
                    self._shards.add(place.parent.name)
                os.replace(file, place)
            self._sync()
        except OSError as error:
            raise blob_trouble(error, self.folder) from error

    def _sync(self) -> None:
        """Everything written to the store's file system is durable when this returns."""
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _SYNCFS(fd) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(fd)

    def get(self, sha256: str) -> bytes:
        """The bytes. Raises NotFound, or Unavailable when what is stored is not what its name says."""
        try:
            data = self.path(sha256).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"no blob {sha256}", code="blob_not_found") from error
        except OSError as error:
            raise blob_trouble(error, self.folder) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Unavailable(f"blob {sha256} is damaged on disk", code="blob_damaged")
        return data

    def get_each(self, hashes: Sequence[str]) -> list[bytes | PenstockError]:
        """As many answers, in order: what `get` would raise stands in the place of what can't be had."""
        answers: list[bytes | PenstockError] = []
        for sha256 in hashes:
            try:
                answers.append(self.get(sha256))
            except PenstockError as error:
                answers.append(error)
        return answers

    def open(self, sha256: str) -> BinaryIO:
        """The blob to read from. Raises NotFound, Unavailable."""
        try:
            return self.path(sha256).open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"no blob {sha256}", code="blob_not_found") from error
        except OSError as error:
            raise blob_trouble(error, self.folder) from error

    def written_ns(self, sha256: str) -> int | None:
        """When it was written; None: it is not there. Raises Unavailable."""
        try:
            return self.path(sha256).stat().st_mtime_ns
        except FileNotFoundError:
            return None
        except OSError as error:
            raise blob_trouble(error, self.folder) from error

    def remove(self, sha256: str, *, written_ns: int | None = None) -> bool:
        """Whether it went: False where it is not there, or was written at another time than `written_ns`. A death in
        between leaves it set aside, for `clean`. Raises Unavailable."""
        place = self.path(sha256)
        aside = self.folder / _TEMPORARY / secrets.token_hex(12)
        try:
            os.rename(place, aside)
            if written_ns is not None and aside.stat().st_mtime_ns != written_ns:
                # Somebody has written it between the look and now: it is theirs.
                os.rename(aside, place)
                return False
            aside.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise blob_trouble(error, self.folder) from error
        return True

    def check(self) -> None:
        """Raises Unavailable when what is not this machine's disk can't be reached; called each second."""

    def check_writing(self) -> None:
        """The same, and when nothing may be written there; called once at a start."""

    def clean(self) -> int:
        """Removes temporary files of writers that died over an hour ago; returns how many. Raises Unavailable."""
        count = 0
        try:
            for entry in (self.folder / _TEMPORARY).iterdir():
                with suppress(FileNotFoundError):  # its writer keeps or discards it just now
                    if time.time() - entry.stat().st_mtime > STALE_SECONDS:
                        entry.unlink()
                        count += 1
        except OSError as error:
            raise blob_trouble(error, self.folder) from error
        return count


class BlobWriter:
    """One blob on its way in: hashed and counted as it is written."""

    def __init__(self, place: Path, store_folder: Path) -> None:
        self.place = place
        self.size_bytes = 0
        self._store_folder = store_folder
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = place.open("xb", buffering=1 << 16)

    def write(self, data: bytes) -> None:
        assert self._file is not None, "written after finish"
        try:
            self._file.write(data)
        except OSError as error:
            self.discard()
            raise blob_trouble(error, self._store_folder) from error
        self._hash.update(data)
        self.size_bytes += len(data)

    def finish(self) -> common_pb2.BlobRef:
        """Completes the file; it is neither durable nor under its hash yet."""
        if self._file is not None:
            self._file.close()
            self._file = None
        return common_pb2.BlobRef(sha256=self._hash.hexdigest(), size_bytes=self.size_bytes)

    def discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # closing writes what still waits, and the disk may take no more
                self._file.close()
            self._file = None
        self.place.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class BlobFile:
    """A complete file as one blob: hashed where it lies, and never copied. `keep` takes it away from there.

    It lies inside the store's folder; nobody writes to it any more. What is not kept is its owner's to remove.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ref: common_pb2.BlobRef | None = None

    def finish(self) -> common_pb2.BlobRef:
        """Reads it, the first time. Raises OSError."""
        if self._ref is None:
            with self.place.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                self._ref = common_pb2.BlobRef(sha256=sha256, size_bytes=os.fstat(file.fileno()).st_size)
        return self._ref
