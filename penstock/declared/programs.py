"""Runs programs for processors, through a keeper (`penstock.declared.keeper`) that is started with the first one.

`run` ends when nothing of the program lives any more and its folder is gone, however it ended: by itself, at its
bounds, or because the call was cancelled. Raises ServiceUnavailable when no program can be started at all: nothing of
the item was done, and it costs no try.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.declared import keeper
from penstock.processor import ServiceUnavailable

__all__ = ["Bounds", "Ended", "Program", "Programs"]

FOLDER_PREFIX = "penstock-item-"
_MESSAGE_BYTES = 1 << 16
_SMALL_BYTES = 256 << 10
_GONE_SECONDS = 1.5
"""Below what the worker waits for a call that it has cancelled."""
_FULL_SECONDS = 0.001


@dataclass(frozen=True)
class Bounds:
    """Seconds and bytes; 0: none (not of wall_seconds, output_bytes and log_bytes)."""

    wall_seconds: float
    stop_seconds: float
    cpu_seconds: int
    memory_bytes: int
    file_bytes: int
    output_bytes: int
    log_bytes: int


@dataclass(frozen=True)
class Program:
    """What to start. argv, environment: asked for with the places `input`, `output` and `folder` of this one start;
    given: the item; from_stdin: it comes as standard input; to_stdout: the output is what it prints.
    """

    argv: Callable[[Mapping[str, str]], Sequence[str]]
    environment: Callable[[Mapping[str, str]], Mapping[str, str]]
    given: bytes
    from_stdin: bool
    to_stdout: bool
    bounds: Bounds


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it left.

    why: "" by itself; wall, memory, output: at that bound; stopped: it was told to; lost: its watcher died.
    error: why it was not started; code or signal: of its end; output: None when there is none.
    """

    why: str = ""
    error: str = ""
    code: int | None = None
    signal: int | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    log_bytes: int = 0
    output: bytes | None = None
    output_problem: str = ""
    log: bytes = b""


class Programs:
    """Of one worker. Has no process until something is run."""

    def __init__(self) -> None:
        self._requests: socket.socket | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    async def run(
        self,
        program: Program,
        *,
        stop: asyncio.Event | None = None,
        on_progress: Callable[[bytes], None] = lambda line: None,
    ) -> Ended:
        """Starts it and waits for its end; `stop`: asks it to end. Cancelled, it is killed first."""
        folder = Path(tempfile.gettempdir()) / f"{FOLDER_PREFIX}{secrets.token_hex(8)}"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                await self._request(_spec(program, folder), theirs)
            ours.setblocking(False)
            try:
                told = await self._until_ended(ours, stop, on_progress)
            except asyncio.CancelledError:
                await self._killed(ours)
                raise
            if told is None:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                return Ended(why="lost")
            ended = await _left(Ended(**told), program, folder)
            await _gone(ours)
            return ended
        finally:
            ours.close()

    def close(self) -> None:
        """The keeper ends, and with it all that runs."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._keeper is not None:
            self._keeper.wait()
            self._keeper = None

    async def _request(self, spec: int, theirs: socket.socket) -> None:
        try:
            for again in (True, False):
                try:
                    while True:
                        try:
                            socket.send_fds(self._connected(), [b"start"], [spec, theirs.fileno()])
                            return
                        except BlockingIOError:  # it starts others just now
                            await asyncio.sleep(_FULL_SECONDS)
                except OSError as error:
                    self._requests = None
                    if not again:
                        raise ServiceUnavailable(f"no program can be started: {error.strerror}") from error
        finally:
            os.close(spec)

    def _connected(self) -> socket.socket:
        if self._requests is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._keeper = subprocess.Popen(
                    [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env={},
                )
            ours.setblocking(False)
            self._requests = ours
        return self._requests

    async def _killed(self, ours: socket.socket) -> None:
        """Kills it, and waits until all of it is gone, but not for long."""
        with contextlib.suppress(OSError, TimeoutError):
            ours.send(b"k")
            async with asyncio.timeout(_GONE_SECONDS):
                await self._until_ended(ours, None, lambda line: None)
                await _gone(ours)

    async def _until_ended(
        self, ours: socket.socket, stop: asyncio.Event | None, on_progress: Callable[[bytes], None]
    ) -> dict[str, Any] | None:
        """What the watcher says of the end; None when it says nothing any more."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.create_task(_stopped(ours, stop)) if stop is not None else None
        try:
            while message := await loop.sock_recv(ours, _MESSAGE_BYTES):
                if message.startswith(b"E"):
                    found: dict[str, Any] = json.loads(message[1:])
                    return found
                on_progress(message[1:])
            return None
        except ConnectionError:
            return None
        finally:
            if stopping is not None:
                stopping.cancel()


async def _stopped(ours: socket.socket, stop: asyncio.Event) -> None:
    await stop.wait()
    with contextlib.suppress(OSError):
        ours.send(b"t")


async def _gone(ours: socket.socket) -> None:
    """Lets the watcher go, and waits until it has."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        ours.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(ours, _MESSAGE_BYTES):
            pass


def _spec(program: Program, folder: Path) -> int:
    """A file in memory: the length of a JSON object, that object, and the item."""
    places = {
        "input": str(folder / "input.json"),
        "output": str(folder / "output.json"),
        "folder": str(folder / "work"),
    }
    text = json.dumps(
        {
            "argv": list(program.argv(places)),
            "environment": dict(program.environment(places)),
            "folder": str(folder),
            "stdin": program.from_stdin,
            "bounds": asdict(program.bounds),
        }
    ).encode()
    try:
        spec = os.memfd_create("item")
    except OSError as error:
        raise ServiceUnavailable(f"no program can be started: {error.strerror}") from error
    try:
        for data in (len(text).to_bytes(8, "big"), text, program.given):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(spec, rest) :]
        os.lseek(spec, 0, os.SEEK_SET)
    except BaseException:
        os.close(spec)
        raise
    return spec


async def _left(ended: Ended, program: Program, folder: Path) -> Ended:
    """With what the program wrote."""
    if ended.error:
        return ended
    output = folder / ("stdout" if program.to_stdout else "output.json")

    def read() -> Ended:
        data, problem = _read(output, program.bounds.output_bytes)
        if program.to_stdout and data is None and not output.exists():
            data, problem = b"", ""  # it printed nothing
        log, _ = _read(folder / "log", 2 * program.bounds.log_bytes + _SMALL_BYTES)
        return Ended(**{**asdict(ended), "output": data, "output_problem": problem, "log": log or b""})

    sizes = 0
    for place in (output, folder / "log"):
        with contextlib.suppress(OSError):
            sizes += place.lstat().st_size
    return read() if sizes <= _SMALL_BYTES else await asyncio.to_thread(read)


def _read(place: Path, most: int) -> tuple[bytes | None, str]:
    """A plain file's bytes; else None, and what is wrong."""
    try:
        # A program may leave anything there: a pipe that nobody writes to, a link to what it may not read itself.
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, "it wrote no output"
    except OSError as error:
        return None, f"its output can't be read: {error.strerror}"
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        return None, "its output is no plain file"
    with open(descriptor, "rb") as file:
        if found.st_size > most:
            return None, f"its output has more than {most:,} bytes (output_bytes)"
        return file.read(), ""
