"""One child, from its birth to its last wait: what it is given, what it may answer, when it is killed.

Synchronous: `run` holds a thread for as long as the child lives, and `stop`, from any other, ends it at once. The child
leads a process group, which is killed whole at the deadline, when it says more than it may, and when nobody waits any
longer; it dies by itself with the thread that waits for it, and so with the planner. Its environment is empty, its
working folder is removed as soon as it stands in it, so that nothing can be made there by anybody.

What it says is bounded, and looked at before it is believed: keys are lines of JSON with one text each. They go to a
file, 8 bytes more than JSON needs for each, so that ten million of them cost the planner a buffer and no more.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import orjson

from planner.sandbox.frames import DONE, HEAD_BYTES, KEYS, parse_head
from planner.sandbox.tables import Table

__all__ = ["Bounds", "Child", "Ended", "NotStarted", "Refusal"]

GRACE_SECONDS = 0.25
"""After the deadline, until the child would end itself."""

_READ_BYTES = 256 << 10
_PIPE_BYTES = 1 << 20
MAX_KEY_CHARACTERS = 4_096
"""Of a text of the result: no source has longer keys."""

_MAX_LINE_BYTES = 12 * MAX_KEY_CHARACTERS + 64
_BOOT = "import sys; sys.path[:0] = sys.argv[1:]; from planner.sandbox.child.main import main; main()"


@dataclass(frozen=True)
class Bounds:
    """Of one query: wall and processor time, address space, keys that it may give.
    user: whom a child of root becomes."""

    seconds: float
    memory_bytes: int
    keys: int
    user: int


@dataclass(frozen=True)
class Refusal:
    """Why there is no answer. position: of the byte in the text, -1: of none."""

    code: str
    message: str = ""
    position: int = -1


@dataclass(frozen=True)
class Ended:
    """count: keys in the file. peak_bytes, seconds: what the child took at most, from birth to its last wait: no less
    than its parent had when it was born."""

    count: int
    refusal: Refusal | None
    peak_bytes: int
    seconds: float


_TOO_LONG = Refusal("sql_no_key", "the result has a text that is longer than any key")


class NotStarted(Exception):
    """The machine gives no process."""


class Child:
    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._stopped = False

    def run(self, sql: str, tables: Mapping[str, Table], *, keys_of: Sequence[str], into: Path) -> Ended:
        """Writes the keys into the new file `into`, which stays if there is no refusal. Raises OSError, NotStarted."""
        with ExitStack() as stack:
            fds: dict[Path, int] = {}
            for table in tables.values():
                if table.file not in fds:
                    fds[table.file] = os.open(table.file, os.O_RDONLY | os.O_CLOEXEC)
                    stack.callback(os.close, fds[table.file])
            request = {
                "sql": sql,
                "tables": [(name, fds[table.file], table.shown()) for name, table in tables.items()],
                "keys_of": list(keys_of),
                "seconds": self._bounds.seconds + GRACE_SECONDS,
                "memory_bytes": self._bounds.memory_bytes,
                "user": self._bounds.user,
                "parent": os.getpid(),
            }
            file = stack.enter_context(into.open("xb"))
            kept = stack.enter_context(ExitStack())
            kept.callback(into.unlink, missing_ok=True)
            ended = self._lived(request, list(fds.values()), _Answer(file, self._bounds.keys))
            if ended.refusal is None:
                kept.pop_all()
            return ended

    def _lived(self, request: Mapping[str, object], fds: Sequence[int], answer: _Answer) -> Ended:
        begun = time.monotonic()
        with self._born(json.dumps(request).encode(), fds) as process:
            assert process.stdout is not None
            try:
                refusal = self._listen(process.stdout.fileno(), answer, until=begun + self._bounds.seconds)
            finally:
                peak_bytes, status = self._buried(process)
        return Ended(answer.count, refusal or _told(answer, status), peak_bytes, time.monotonic() - begun)

    def stop(self) -> None:
        """Ends the child now, or as soon as it is born."""
        with self._lock:
            self._stopped = True
            self._kill()

    def _born(self, request: bytes, fds: Sequence[int]) -> subprocess.Popen[bytes]:
        try:
            # The request is a file in memory: the child takes it when it likes, and nobody waits for that.
            with os.fdopen(os.memfd_create("request"), "wb", buffering=0) as given, _folder() as folder:
                given.write(request)
                given.seek(0)
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT, *_import_paths()],
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={},
                    cwd=folder,
                    pass_fds=fds,
                    process_group=0,
                )
        except OSError as error:
            raise NotStarted(str(error)) from error
        with self._lock:
            self._pid = process.pid
            if self._stopped:
                self._kill()
        return process

    def _listen(self, fd: int, answer: _Answer, *, until: float) -> Refusal | None:
        """Reads until the child has said all, or may say no more."""
        with suppress(OSError):  # where a user may not have pipes as large as that
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not answer.done:
            left = until - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return Refusal("sql_timeout")
            data = os.read(fd, _READ_BYTES)
            if not data:
                return None
            if (refusal := answer.take(data)) is not None:
                return refusal
        return None

    def _buried(self, process: subprocess.Popen[bytes]) -> tuple[int, int]:
        """Kills what is left of the group, waits for it; (peak bytes, status as waitpid has it)."""
        with self._lock:
            self._kill()
            # Under the lock: once it has been waited for, its number may be another's.
            _, status, usage = os.wait4(process.pid, 0)
            self._pid = None
        process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_maxrss << 10, status

    def _kill(self) -> None:
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)


class _Answer:
    """The frames of a child, put together again, checked, written out."""

    def __init__(self, file: BinaryIO, keys: int) -> None:
        self.count = 0
        self.done = False
        self._file = file
        self._keys = keys
        self._data = bytearray()
        self._lines = bytearray()
        self._bytes = 0

    def take(self, data: bytes) -> Refusal | None:
        """Raises OSError when the disk takes no more."""
        self._data += data
        try:
            while len(self._data) >= HEAD_BYTES and not self.done:
                kind, size = parse_head(self._data)
                if len(self._data) < HEAD_BYTES + size:
                    break
                body = bytes(self._data[HEAD_BYTES : HEAD_BYTES + size])
                del self._data[: HEAD_BYTES + size]
                if kind == KEYS:
                    self._lines += body
                elif kind == DONE:
                    self.done = self._lines.endswith(b"\n") or not self._lines
                    if not self.done:
                        return Refusal("sql_broken")
                else:
                    told = orjson.loads(body)
                    return Refusal(str(told["code"]), str(told["message"]), int(told["position"]))
            return self._write()
        except (ValueError, KeyError, TypeError):  # what no child of ours says
            return Refusal("sql_broken")

    def _write(self) -> Refusal | None:
        end = self._lines.rfind(b"\n") + 1
        if len(self._lines) - end > _MAX_LINE_BYTES:
            return _TOO_LONG
        lines = bytes(self._lines[:end]).strip()
        del self._lines[:end]
        if not lines:
            return None
        keys = [row["key"] for row in orjson.loads(b"[" + lines.replace(b"\n", b",") + b"]")]
        if set(map(type, keys)) != {str}:
            return Refusal("sql_null_key", "the result has a row whose key is null; add WHERE … IS NOT NULL")
        if max(map(len, keys)) > MAX_KEY_CHARACTERS:
            return _TOO_LONG
        self.count += len(keys)
        self._bytes += len(lines)
        if self.count > self._keys or self._bytes > _bytes_of(self._keys):
            return Refusal("sql_rows")
        self._file.write(lines + b"\n")
        return None


def _bytes_of(keys: int) -> int:
    """How much that many keys may take on the disk: keys as long as this are seldom, and all of them never."""
    return (1 << 20) + 256 * keys


def _told(answer: _Answer, status: int) -> Refusal | None:
    """What the end of a child means that has not said why there is no answer."""
    if answer.done:
        return None
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGXCPU, -signal.SIGALRM):
        return Refusal("sql_timeout")
    if code in (-signal.SIGABRT, -signal.SIGKILL):  # memory that was refused it in a place that takes no refusal
        return Refusal("sql_memory")
    return Refusal("sql_broken")


@contextmanager
def _folder() -> Iterator[str]:
    """A folder to be started in, which is gone when the child looks about: nothing can be made in it by anybody."""
    folder = tempfile.mkdtemp(prefix="penstock-sandbox-")
    try:
        yield folder
    finally:
        os.rmdir(folder)


@cache
def _import_paths() -> list[str]:
    """Where the child finds us and DuckDB. It starts without `site`, which takes longer than it lives for."""
    paths = [str(Path(__file__).resolve().parents[2])]
    found = importlib.util.find_spec("duckdb")
    if found is not None and found.origin is not None:
        paths.append(str(Path(found.origin).parents[1]))
    return paths
