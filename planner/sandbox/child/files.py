"""A file system for DuckDB with the snapshots in it, each an open descriptor, and one place to write: the answer.

DuckDB takes file systems of fsspec; of the whole of fsspec it needs the name of one class, so that is all there is of
it here. Nothing is opened: reading is `pread` on what the planner opened for reading, so no way through here writes to
a snapshot, and the answer goes to standard output in frames. What DuckDB asks beyond this fails.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING

from planner.sandbox.frames import KEYS, MAX_FRAME_BYTES, head

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ANSWER", "Output", "SnapshotFiles", "snapshot_path"]

PROTOCOL = "snapshot"
ANSWER = f"{PROTOCOL}://answer"
_LONG_AGO = datetime(2000, 1, 1)


class _AbstractFileSystem:
    """What DuckDB imports from fsspec."""


def snapshot_path(fd: int) -> str:
    return f"{PROTOCOL}://{fd}"


class Output:
    """The way to the planner: what was standard output, which goes nowhere from then on. For DuckDB writes there, too:
    after two seconds of a query it draws how far it is, whatever its setting says while nobody has set it."""

    def __init__(self) -> None:
        self._fd = os.dup(1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)

    def send(self, kind: bytes, data: bytes | memoryview) -> None:
        """One frame."""
        first = head(kind, len(data))
        written = os.writev(self._fd, [first, data]) - len(first)
        assert written >= 0, "a pipe takes as little as that whole"
        while written < len(data):
            written += os.write(self._fd, memoryview(data)[written:])


class SnapshotFiles(_AbstractFileSystem):
    """The names of its methods are fsspec's."""

    protocol = PROTOCOL

    def __init__(self, fds: Mapping[str, int], output: Output) -> None:
        """fds: by paths of `snapshot_path`."""
        self._fds = fds
        self._output = output
        self.answering = False

    @staticmethod
    def install() -> None:
        """Before DuckDB is imported."""
        module = ModuleType("fsspec")
        module.AbstractFileSystem = _AbstractFileSystem  # type: ignore[attr-defined]
        sys.modules["fsspec"] = module

    def open(self, path: str, mode: str = "rb", **_: object) -> _Snapshot | _Answer:
        if path == ANSWER and mode == "wb" and self.answering:
            return _Answer(self._output)
        if path not in self._fds or mode != "rb":
            raise PermissionError(f"there is no {path} to open for {mode}")
        return _Snapshot(self._fds[path])

    @property
    def paths(self) -> list[str]:
        return list(self._fds)

    def exists(self, path: str) -> bool:
        return path in self._fds

    isfile = exists

    def isdir(self, path: str) -> bool:
        return False

    def glob(self, path: str, **_: object) -> list[str]:
        return [path] if path in self._fds else []

    def size(self, path: str) -> int:
        return os.fstat(self._fds[path]).st_size

    def modified(self, path: str) -> datetime:
        return _LONG_AGO  # snapshots never change

    def unstrip_protocol(self, path: str) -> str:
        return path


class _Snapshot:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        data = os.pread(self._fd, os.fstat(self._fd).st_size - self._at if size < 0 else size, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (os.fstat(self._fd).st_size if base is None else base)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        pass  # the descriptor is for the next reader, too


class _Answer:
    def __init__(self, output: Output) -> None:
        self._output = output
        self._size = 0

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        for start in range(0, len(view), MAX_FRAME_BYTES):
            self._output.send(KEYS, view[start : start + MAX_FRAME_BYTES])
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
