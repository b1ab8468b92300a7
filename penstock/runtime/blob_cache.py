"""Local copies of blobs that live elsewhere, for those who need a file: bounded, shared by processes, never half there.

A copy is a file under its blob's hash, so it is right or it is not there, and who has one needs to ask nobody. It is in
use while somebody has its path: a `HeldPath` keeps the file open with a shared lock, which goes with the path, however
its process ends. Room is made by removing the copies that were handed out longest ago, and only ones that no process
uses: whoever removes a file has its lock alone. So what is in use may pass the bound, and nothing else does.

A file may vanish between its opening and its lock: it is then no longer linked, and is looked for again.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PosixPath

__all__ = ["BlobCache", "HeldPath"]

_ROOM = 0.9
"""Of the bound is left when room was made, so that not every file that comes asks for some."""
_COUNTED = 16
"""Other processes bring files too: what lies here is counted again after each such part of the bound."""


class _Hold:
    """The shared lock of one file, for as long as this lives."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class HeldPath(PosixPath):
    """The path of a file that stays while this object lives. What is made of it (its text, a parent) holds nothing."""

    hold: _Hold

    def resolve(self, strict: bool = False) -> HeldPath:
        """Itself: it is made of a path without links."""
        return self

    @classmethod
    def of(cls, place: Path, hold: _Hold) -> HeldPath:
        path = cls(place)
        path.hold = hold
        return path


class BlobCache:
    """Of files `FOLDER/ab/cdef…` (`folder` resolved), at most `limit_bytes` beside what is in use."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._holds: weakref.WeakValueDictionary[Path, _Hold] = weakref.WeakValueDictionary()
        self._size = limit_bytes + 1  # until it is counted
        self._since = 0

    def held(self, place: Path) -> HeldPath | None:
        """The file at `place`, in use from now on; None where there is none. Raises OSError."""
        with self._lock:
            hold = self._holds.get(place)
            if hold is not None and os.fstat(hold.descriptor).st_nlink == 0:
                hold = None  # a damaged one was thrown away
            if hold is None and (hold := _taken(place)) is None:
                return None
            self._holds[place] = hold
        os.utime(hold.descriptor)
        return HeldPath.of(place, hold)

    def keep(self, file: Path, place: Path) -> HeldPath:
        """A complete file of the same file system comes to `place`, in use from now on. Raises OSError."""
        hold = _taken(file)
        assert hold is not None, file
        size = os.fstat(hold.descriptor).st_size
        place.parent.mkdir(exist_ok=True)
        with self._alone():
            os.replace(file, place)
        with self._lock:
            self._holds[place] = hold
            self._size += size
            self._since += size
            crowded = self._size > self._limit_bytes or self._since > self._limit_bytes / _COUNTED
        path = HeldPath.of(place, hold)
        if crowded:
            self.make_room()
        return path

    def remove(self, place: Path) -> bool:
        """Whether it went: False where it is in use or not there."""
        with suppress(OSError), self._alone():
            descriptor = os.open(place, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_ino == os.stat(place).st_ino:
                    place.unlink()
                    return True
            finally:
                os.close(descriptor)
        return False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else, of whatever process, puts or removes a file meanwhile: one that comes to a place between a look
        at it and the removal would be removed unseen."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def make_room(self) -> None:
        """Removes what was handed out longest ago and nobody uses, until the bound is kept."""
        found = list[tuple[int, int, Path]]()
        for shard in self._folder.glob("[0-9a-f][0-9a-f]"):
            for file in shard.iterdir():
                with suppress(FileNotFoundError):
                    told = file.stat()
                    found.append((told.st_mtime_ns, told.st_size, file))
        size = sum(one[1] for one in found)
        if size > self._limit_bytes:
            for _, bytes_, file in sorted(found):
                if self.remove(file):
                    size -= bytes_
                if size <= _ROOM * self._limit_bytes:
                    break
        with self._lock:
            self._size, self._since = size, 0


def _taken(place: Path) -> _Hold | None:
    while True:
        try:
            hold = _Hold(os.open(place, os.O_RDONLY))
        except FileNotFoundError:
            return None
        fcntl.flock(hold.descriptor, fcntl.LOCK_SH)  # waits for one who is removing it just now, at most
        if os.fstat(hold.descriptor).st_nlink:
            return hold
