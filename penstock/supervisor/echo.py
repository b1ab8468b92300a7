"""Shows on standard error what the programs write to their log files, and keeps those files bounded.

Programs write to DATA/logs themselves, so that a supervisor that dies or a terminal that is held takes no line from
them and makes none of them wait. A line that standard error does not take in time is dropped here; the file has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import sys
import threading
from pathlib import Path
from typing import BinaryIO

__all__ = ["LogEcho", "rotate", "tail"]

LARGEST_LOG_BYTES = 32 << 20
_WAITING_LINES = 2_000
_READ_BYTES = 1 << 18


def rotate(path: Path) -> None:
    """Keeps what was there as one older file, so that a start begins with an empty one."""
    if path.exists() and path.stat().st_size:
        path.replace(path.with_name(path.name + ".1"))


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log, for an error message."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()][-lines:]
    except OSError:
        return []


def _move(file: BinaryIO, older: BinaryIO) -> None:
    """Copies the file into the older one and cuts it: its writers append, so they go on at its start.

    They write meanwhile: the copy goes on until it has caught up. What comes between that look and the cut, some
    microseconds later, is the most that can be lost.
    """
    file.seek(0)
    while True:
        shutil.copyfileobj(file, older, _READ_BYTES)
        if os.fstat(file.fileno()).st_size == file.tell():
            break
    os.ftruncate(file.fileno(), 0)


class LogEcho:
    """Follows every `*.log` of a folder; `poll` shows what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._rest: dict[Path, bytes] = {}
        self._pretty = sys.stderr.isatty()
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING_LINES)
        self._writer = threading.Thread(target=self._write, name="echo", daemon=True)
        self._writer.start()

    def poll(self) -> None:
        try:
            paths = sorted(self._folder.glob("*.log"))
        except OSError:
            return
        for path in paths:
            try:
                self._follow(path)
            except OSError:
                continue

    def say(self, line: str) -> None:
        """A line of the supervisor's own."""
        self._put(f"penstock: {line}")

    def close(self) -> None:
        """Shows the rest and stops; does not wait for a standard error that nobody reads."""
        self.poll()
        try:
            self._lines.put(None, timeout=0.5)
        except queue.Full:
            return
        self._writer.join(0.5)

    def _follow(self, path: Path) -> None:
        with path.open("r+b") as file:
            offset = self._offsets.get(path, 0)
            size = os.fstat(file.fileno()).st_size
            if size == offset:
                return
            # A smaller one was truncated, or is new after a rotation.
            offset = self._offsets[path] = self._show(path, file, offset if size > offset else 0)
            if offset > LARGEST_LOG_BYTES:
                with path.with_name(path.name + ".1").open("w+b") as older:
                    _move(file, older)
                    self._offsets[path] = 0
                    self._show(path, older, offset)

    def _show(self, path: Path, file: BinaryIO, offset: int) -> int:
        """Shows the lines from `offset` to the end of the file; returns the end."""
        file.seek(offset)
        while data := file.read(_READ_BYTES):
            *lines, rest = (self._rest.pop(path, b"") + data).split(b"\n")
            self._rest[path] = rest[-_READ_BYTES:]
            for line in lines:
                if line.strip():
                    self._put(self._shown(path.stem, line.decode(errors="replace")))
        return file.tell()

    def _shown(self, name: str, line: str) -> str:
        if not self._pretty:
            return line if line.startswith("{") else f"{name}: {line}"
        try:
            fields = json.loads(line)
            time = fields.pop("timestamp", "")[11:19]
            level = fields.pop("level", "")
            program = fields.pop("program", name)
            event = fields.pop("event", "")
        except (ValueError, AttributeError, TypeError):
            return f"{name}: {line}"
        rest = "  ".join(f"{key}={value}" for key, value in fields.items())
        return f"{time} {program:<9} {'' if level == 'info' else level.upper() + ' '}{event}  {rest}".rstrip()

    def _put(self, line: str) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            except (OSError, ValueError):
                return
