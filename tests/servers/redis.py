"""A real Redis on a private socket, started as the embedded mode starts it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from penstock.supervisor import watcher
from penstock.supervisor.redis_server import SOCKET_NAME, arguments, make_socket_folder, server_program

__all__ = ["RedisServer"]

START_SECONDS = 10.0


class RedisServer:
    """`url` for clients; `kill` and `start` for tests of its loss (the same address again)."""

    def __init__(self) -> None:
        self.folder: Path = make_socket_folder()
        self.url = f"unix://{self.folder / SOCKET_NAME}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        """Of its watcher; the server is below it."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        # Under the supervisor's own watcher: a test run that is killed leaves no server behind.
        reading, self._lifeline = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", watcher.__file__, str(reading)),
                *arguments(server_program(), self.folder),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(reading,),
        )
        os.close(reading)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._answers():
                return
            time.sleep(0.01)
        raise AssertionError(f"redis-server did not answer in {START_SECONDS:g} s")

    def flush(self) -> None:
        assert self._ask(b"FLUSHALL\r\n").startswith(b"+OK")

    def restart(self) -> None:
        """In good order; it keeps nothing."""
        with contextlib.suppress(OSError):
            self._ask(b"SHUTDOWN NOSAVE\r\n")
        assert self._process is not None
        self._process.wait(10)
        os.close(self._lifeline)
        self.start()

    def kill(self) -> None:
        """As a crash would: without a word."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(5)
        os.close(self._lifeline)
        deadline = time.monotonic() + 5
        while self._answers() and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self._ask(b"PING\r\n").startswith(b"+PONG")
        return False

    def _ask(self, command: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(5)
            one.connect(str(self.folder / SOCKET_NAME))
            one.sendall(command)
            return one.recv(256)
