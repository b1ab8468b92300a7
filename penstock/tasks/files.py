"""Task files on disk: read whole, or held by one writer and replaced whole.

The lock is on the file itself, so that nothing is left lying about: whoever gets it looks whether the file is still the
one of that name, since a writer before may have replaced it, and begins again if not. It holds among programs that use
it. Other editors don't; what they wrote is noticed before the file is replaced, but for the instant of the last look.

The new file lies beside the old one until it is complete and on disk, then takes its name (that of a symbolic link
stays a link), mode and, where that is allowed, owner. A failure before that instant leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from penstock.runtime.errors import Conflict, InvalidInput, NotFound, PermissionDenied, TooLarge, Unavailable
from penstock.tasks.parsing import MAX_FILE_BYTES

__all__ = ["HeldFile", "held", "read_task_file"]

WAIT_SECONDS = 10.0
_ASK_AGAIN_SECONDS = 0.01


def read_task_file(path: Path) -> bytes:
    """The bytes. Raises NotFound, InvalidInput for what is no file or can't be read, TooLarge."""
    with _told(path):
        descriptor = os.open(_place(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _bytes(descriptor, path)
        finally:
            os.close(descriptor)


class HeldFile:
    """A file that no other writer of ours has: its bytes, and the way to replace them."""

    def __init__(self, path: Path, place: Path, descriptor: int) -> None:
        self._path = path
        self._place = place
        self._descriptor = descriptor
        self.data = _bytes(descriptor, path)

    def replace(self, data: bytes) -> None:
        """Raises Conflict when someone who doesn't ask for the lock has changed the file since."""
        was = os.fstat(self._descriptor)
        new = _written_beside(self._place, data, was)
        try:
            if not _is(self._place, self._descriptor) or _bytes(self._descriptor, self._path) != self.data:
                raise Conflict(
                    f"{self._path} was changed by another program meanwhile: nothing was written, try again",
                    code="file_changed",
                )
            os.replace(new, self._place)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        _sync_folder(self._place.parent)


@contextlib.contextmanager
def held(path: Path, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[HeldFile]:
    """The file, held. Raises as `read_task_file` does, PermissionDenied, and Unavailable when another writer keeps it
    longer than `wait_seconds`."""
    deadline = time.monotonic() + wait_seconds
    with _told(path):
        while True:
            place = _place(path)
            descriptor = os.open(place, os.O_RDWR | os.O_CLOEXEC)
            try:
                _lock(descriptor, path, deadline)
                if _is(place, descriptor):
                    yield HeldFile(path, place, descriptor)
                    return
            finally:
                os.close(descriptor)


def _lock(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Unavailable(f"{path} is being written by another program: try again", code="file_held") from None
            time.sleep(_ASK_AGAIN_SECONDS)


def _place(path: Path) -> Path:
    """Where the file itself is, links followed."""
    place = Path(os.path.realpath(path, strict=True))
    if not stat.S_ISREG(place.stat().st_mode):  # opening a pipe would wait for its other end
        what = "a folder" if place.is_dir() else "no file of text"
        raise InvalidInput(f"{path} is {what}: a task file is needed", code="not_a_file")
    return place


def _is(place: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(place), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _bytes(descriptor: int, path: Path) -> bytes:
    size = os.fstat(descriptor).st_size
    if size > MAX_FILE_BYTES:
        raise TooLarge(
            f"{path} has {size:,} bytes, a task file may have {MAX_FILE_BYTES:,}", code="task_file_too_large"
        )
    parts, at = [], 0
    while at <= MAX_FILE_BYTES and (part := os.pread(descriptor, MAX_FILE_BYTES + 1 - at, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _written_beside(place: Path, data: bytes, was: os.stat_result) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=".penstock-", suffix=".new", dir=place.parent)
    new = Path(name)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            made = os.fstat(descriptor)
            if (made.st_uid, made.st_gid) != (was.st_uid, was.st_gid):
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, was.st_uid, was.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(was.st_mode))
            # Else a machine that goes down may leave the name with nothing in it.
            os.fsync(descriptor)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return new


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{path}: no such file", code="no_such_file") from None
    except PermissionError as error:
        raise PermissionDenied(
            f"{path}: this user may not do that: the file has to be readable, and to tick in it the file and its "
            "folder writable",
            code="no_permission",
        ) from error
    except OSError as error:
        raise Unavailable(f"{path}: {(error.strerror or str(error)).lower()}", code="unusable_file") from error
