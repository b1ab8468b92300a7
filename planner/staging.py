"""Where an upload lies until it is kept or refused: a folder of its own beside the blobs.

`BLOBS/.planner/SESSION/UPLOAD/…`: the session is this process and holds a lock on it, so that a planner that starts can
tell what a killed one left (and remove it) from what another one is working on. The upload's folder is removed when its
`with` block ends, however it ends. Same file system as the blobs, so keeping is renaming.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from penstock.runtime.blobs import BlobStore, BlobWriter, blob_trouble

__all__ = ["Staging", "Upload"]

_LOCK = "lock"
_UNLOCKED_SECONDS = 60.0  # a session's folder is made an instant before its lock


class Upload:
    """The files of one upload on their way."""

    def __init__(self, folder: Path, blobs: BlobStore, announce: Callable[[str], None]) -> None:
        self.folder = folder
        self.blobs = blobs
        self.announce = announce

    def path(self, name: str) -> Path:
        return self.folder / name

    def writer(self) -> BlobWriter:
        """A blob that is hashed as it arrives. Raises Unavailable."""
        try:
            return BlobWriter(self.folder / secrets.token_hex(8), self.blobs.folder)
        except OSError as error:
            raise blob_trouble(error, self.blobs.folder) from error

    def open(self, name: str) -> BinaryIO:
        """A new file to write and read. Raises Unavailable."""
        try:
            return self.path(name).open("x+b")
        except OSError as error:
            raise blob_trouble(error, self.blobs.folder) from error


class Staging:
    """The session's folder. Raises Unavailable when it can't be made.

    announce: called with the hash of a file that will be a blob, before it is one: a planner that dies before a row
    names the file has said then that it may have to go. Uploaded documents are the exception: nobody calls it for them
    (`sources.SourceUpload`).
    """

    def __init__(self, blobs: BlobStore, announce: Callable[[str], None]) -> None:
        self.blobs = blobs
        self._announce = announce
        self.root = blobs.folder / ".planner"
        self.session = self.root / f"{os.getpid()}-{secrets.token_hex(4)}"
        try:
            self.session.mkdir(parents=True)
            self._lock = os.open(self.session / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise blob_trouble(error, blobs.folder) from error

    def clean(self) -> int:
        """Removes the folders of sessions whose process is gone; returns how many."""
        count = 0
        for folder in self.root.iterdir():
            if folder != self.session and _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                count += 1
        return count

    @contextmanager
    def upload(self) -> Iterator[Upload]:
        folder = self.session / secrets.token_hex(8)
        try:
            folder.mkdir()
        except OSError as error:
            raise blob_trouble(error, self.blobs.folder) from error
        try:
            yield Upload(folder, self.blobs, self._announce)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def check(self) -> None:
        """Raises Unavailable when the blob folder can't be written, or S3 not be reached."""
        self.blobs.check()
        place = self.session / "check"
        try:
            with place.open("wb") as file:
                file.write(b"x" * 4096)
        except OSError as error:
            raise blob_trouble(error, self.blobs.folder) from error
        finally:
            with suppress(OSError):
                place.unlink(missing_ok=True)

    def close(self) -> None:
        shutil.rmtree(self.session, ignore_errors=True)
        os.close(self._lock)


def _abandoned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        with suppress(OSError):
            return time.time() - folder.stat().st_mtime > _UNLOCKED_SECONDS
        return False
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
