"""The data folder as the supervisor keeps it: its lock, its token, what was started, where clients find it.

    lock            flock of the one supervisor; its text says who
    token           what gRPC calls carry (0600)
    state.json      ports that programs keep, pids with start times, Redis's folder: for the next supervisor
    endpoints.json  addresses and pids: for clients

The folder may hold other files; none but these (and blobs, logs, *.db of the services) are touched. Every file is
replaced whole, so a reader never sees half of one. A full disk, or a folder that can't be written, is an error in one
line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import Any

from penstock.runtime.disk import disk_full, is_full
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable

__all__ = ["DataFolder", "folder_problem"]


def folder_problem(error: OSError, path: Path) -> PenstockError:
    """What to say of a data folder that can't be used."""
    if is_full(error):
        return disk_full(f"the data folder {path}")
    if isinstance(error, (PermissionError, FileExistsError, NotADirectoryError)) or error.errno == errno.EROFS:
        is_file = isinstance(error, FileExistsError)
        reason = f"{error.filename} is a file" if is_file else (error.strerror or "no access").lower()
        return InvalidInput(
            f"the data folder {path} can't be written ({reason}): choose another with --data DIR",
            code="data_folder_not_writable",
        )
    return Unavailable(f"the data folder {path} can't be used: {error.strerror}", code="data_folder_unusable")


class DataFolder:
    """An open, locked data folder. `close` lets go of it."""

    def __init__(self, path: Path) -> None:
        """Makes the folder if it is missing, and takes its lock.

        Raises InvalidInput (not writable) or Unavailable (disk full; `data_folder_locked`: another supervisor has it).
        """
        self.path = path.expanduser().absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "logs").mkdir(exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise folder_problem(error, self.path) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = self._holder()
            os.close(self._lock)
            raise Unavailable(text, code="data_folder_locked") from None
        self._written: dict[str, str] = {}
        self.say_who(None)

    def _holder(self) -> str:
        who: dict[str, Any] = {}
        with contextlib.suppress(ValueError, OSError):
            who = json.loads(os.pread(self._lock, 4096, 0))
        pid = f"process {who['pid']}" if "pid" in who else "another process"
        where = f" at {who['url']}" if who.get("url") else ""
        return (
            f"the data folder {self.path} is in use by {pid}{where}: stop that one, or choose another with --data DIR"
        )

    def say_who(self, url: str | None) -> None:
        """Writes into the lock who holds it, for the second `up` that comes along."""
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, json.dumps({"pid": os.getpid(), "url": url}).encode(), 0)
        except OSError as error:
            raise folder_problem(error, self.path) from error

    def token(self) -> Path:
        """The token's file, made on first use."""
        path = self.path / "token"
        try:
            if path.exists() and path.read_text().strip():
                path.chmod(0o600)
            else:
                self._replace(path, secrets.token_urlsafe(32) + "\n")
        except OSError as error:
            raise folder_problem(error, self.path) from error
        return path

    def read_state(self) -> dict[str, Any]:
        """What the last supervisor left; empty when there was none or it can't be read."""
        try:
            state = json.loads((self.path / "state.json").read_text())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Replaces DATA/name; does nothing when it says the same already."""
        text = json.dumps(value, indent=1) + "\n"
        if self._written.get(name) == text:
            return
        try:
            self._replace(self.path / name, text)
        except OSError as error:
            raise folder_problem(error, self.path) from error
        self._written[name] = text

    def remove(self, name: str) -> None:
        self._written.pop(name, None)
        with contextlib.suppress(OSError):
            (self.path / name).unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def _replace(self, path: Path, text: str) -> None:
        beside = path.with_name(f".{path.name}.new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            # Else a machine that goes down may leave the new name with nothing in it: no token, no pids.
            os.fsync(descriptor)
        os.replace(beside, path)
