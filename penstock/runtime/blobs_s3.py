"""The blob store in S3: the same blobs by the same names, and a local cache for those who need a file.

What is written is spooled in the cache's folder, hashed, and goes up whole (large files in parts): it is visible when
all of it is there, and durable when the call returns. What must be a file (Parquet for DuckDB, a document for its
reader) comes through the cache (`path`, `open`); what is read once goes past it (`get`, `get_each`). What is read is
compared with its name, whoever has kept it.

The cache lies in a folder of its own for each place: a folder of blobs that is there already is not taken for one.
While S3 does not answer, what the cache has is served, and all else raises Unavailable.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.runtime.blob_cache import BlobCache, HeldPath
from penstock.runtime.blobs import (
    STALE_SECONDS,
    BlobFile,
    BlobStore,
    BlobWriter,
    bad_hash,
    blob_trouble,
    is_blob_hash,
)
from penstock.runtime.errors import NotFound, PenstockError, Unavailable
from penstock.runtime.s3 import Bucket, S3Place
from penstock.v1 import common_pb2

__all__ = ["S3BlobStore"]

PUT_BYTES, PUT_BLOBS = 64 << 20, 1_000
"""In memory at once, of one `put_many`."""
GET_BLOBS = 64
CHECKED_SECONDS = 5.0
"""What answered so lately is not asked again."""
_KNOWN = 10_000


class S3BlobStore(BlobStore):
    removes_what_it_saw = False

    def __init__(self, place: S3Place, folder: Path, *, cache_bytes: int) -> None:
        """Raises InvalidInput where s3fs is missing, Unavailable where the folder can't be used; S3 is not asked."""
        own = hashlib.sha256(str(place).encode()).hexdigest()[:12]
        super().__init__(folder / f"s3-{own}")
        self.folder = self.folder.resolve()
        self.bucket = Bucket(place)
        self._cache = BlobCache(self.folder, cache_bytes)
        self._lock = threading.Lock()
        self._coming: dict[str, threading.Lock] = {}
        self._right: set[tuple[str, int]] = set()
        self._checked = -CHECKED_SECONDS

    @property
    def told(self) -> str:
        return str(self.bucket.place)

    def path(self, sha256: str) -> Path:
        """A local copy, which stays while the path object lives. Raises NotFound, Unavailable."""
        place = super().path(sha256)
        try:
            return self._held(sha256, place) or self._fetched(sha256, place)
        except OSError as error:
            raise blob_trouble(error, self.folder) from error

    def _held(self, sha256: str, place: Path) -> HeldPath | None:
        found = self._cache.held(place)
        if found is None:
            return None
        known = (sha256, found.stat().st_ino)
        if known not in self._right:
            if _hash_of(found) != sha256:  # its machine went down before it was on the disk, say
                found.unlink(missing_ok=True)
                return None
            self._remember(known)
        return found

    def _fetched(self, sha256: str, place: Path) -> HeldPath:
        with self._lock:
            turn = self._coming.setdefault(sha256, threading.Lock())
        try:
            with turn:
                if (found := self._held(sha256, place)) is not None:
                    return found  # somebody else has brought it meanwhile
                file = self._temporary()
                try:
                    self.bucket.download(self._key(sha256), file)
                    if _hash_of(file) != sha256:
                        raise self._damaged(sha256)
                    self._remember((sha256, file.stat().st_ino))
                    return self._cache.keep(file, place)
                except NotFound:
                    raise self._missing(sha256) from None
                finally:
                    file.unlink(missing_ok=True)
        finally:
            with self._lock:
                self._coming.pop(sha256, None)

    def put_many(self, blobs: Iterable[bytes]) -> list[common_pb2.BlobRef]:
        refs = []
        waiting: dict[str, bytes] = {}
        size = 0
        for data in blobs:
            digest = hashlib.sha256(data).hexdigest()
            refs.append(common_pb2.BlobRef(sha256=digest, size_bytes=len(data)))
            waiting[self._key(digest)] = data
            size += len(data)
            if size >= PUT_BYTES or len(waiting) >= PUT_BLOBS:
                self.bucket.put(waiting)
                waiting, size = {}, 0
        self.bucket.put(waiting)
        return refs

    def keep(self, writers: Iterable[BlobWriter | BlobFile]) -> list[common_pb2.BlobRef]:
        """They stay in the cache: what is kept so is a file that is soon read as one."""
        chosen = list(writers)
        try:
            refs = [writer.finish() for writer in chosen]
            self.bucket.upload(
                [(writer.place, self._key(ref.sha256)) for writer, ref in zip(chosen, refs, strict=True)]
            )
            for writer, ref in zip(chosen, refs, strict=True):
                self._cache.keep(writer.place, super().path(ref.sha256))
        except OSError as error:
            raise blob_trouble(error, self.folder) from error
        return refs

    def adopt(self, files: Iterable[tuple[Path, str]]) -> None:
        chosen = list(files)
        self.bucket.upload([(file, self._key(sha256)) for file, sha256 in chosen])
        for file, _ in chosen:
            file.unlink(missing_ok=True)

    def get(self, sha256: str) -> bytes:
        (answer,) = self.get_each([sha256])
        if isinstance(answer, PenstockError):
            raise answer
        return answer

    def get_each(self, hashes: Sequence[str]) -> list[bytes | PenstockError]:
        answers: list[bytes | PenstockError] = []
        for first in range(0, len(hashes), GET_BLOBS):
            some = hashes[first : first + GET_BLOBS]
            keys = {sha256: self._key(sha256) for sha256 in some if is_blob_hash(sha256)}
            found = dict(zip(keys, self.bucket.get_each(list(keys.values())), strict=True))
            answers += [self._answer(sha256, found.get(sha256)) for sha256 in some]
        return answers

    def _answer(self, sha256: str, found: bytes | Exception | None) -> bytes | PenstockError:
        if isinstance(found, bytes):
            return found if hashlib.sha256(found).hexdigest() == sha256 else self._damaged(sha256)
        if found is None:
            return bad_hash(sha256)
        if isinstance(found, NotFound):
            return self._missing(sha256)
        assert isinstance(found, PenstockError), found
        return found

    def written_ns(self, sha256: str) -> int | None:
        at = self.bucket.written(self._key(sha256))
        return None if at is None else round(at.timestamp() * 1_000) * 1_000_000

    def remove(self, sha256: str, *, written_ns: int | None = None) -> bool:
        """One that is written anew between the look and the removal goes too: S3 can't be asked for both at once."""
        if written_ns is not None and self.written_ns(sha256) != written_ns:
            return False
        self.bucket.remove(self._key(sha256))
        self._cache.remove(super().path(sha256))
        return True

    def clean(self) -> int:
        count = super().clean()
        self._cache.make_room()
        return count + self.bucket.end_uploads(datetime.now(UTC) - timedelta(seconds=STALE_SECONDS))

    def check(self) -> None:
        if time.monotonic() - self._checked < CHECKED_SECONDS:
            return
        self.bucket.check()
        self._checked = time.monotonic()

    def check_writing(self) -> None:
        self.bucket.check_writing()

    def _key(self, sha256: str) -> str:
        place = super().path(sha256)
        return f"{place.parent.name}/{place.name}"

    def _temporary(self) -> Path:
        return self.folder / ".tmp" / secrets.token_hex(12)

    def _remember(self, known: tuple[str, int]) -> None:
        with self._lock:
            if len(self._right) >= _KNOWN:
                self._right.clear()
            self._right.add(known)

    def _missing(self, sha256: str) -> NotFound:
        return NotFound(f"no blob {sha256}", code="blob_not_found")

    def _damaged(self, sha256: str) -> Unavailable:
        return Unavailable(f"blob {sha256} is damaged in {self.told}", code="blob_damaged")


def _hash_of(file: Path) -> str:
    with suppress(FileNotFoundError), file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
    return ""
