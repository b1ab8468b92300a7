"""One program of the cluster: started, watched, killed, frozen, thawed, stopped; always by its pid.

It may not outlive its box, which the kernel sees to. A program that ends while it is waited for is told with the end of
its log.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["Daemon", "NotReady", "wait_until"]

STOP_SECONDS = 10.0
POLL_SECONDS = 0.02


class NotReady(AssertionError):
    """What was waited for did not come; the message says what, and shows the end of the log."""


class Daemon:
    """`start` again after `kill` or `stop` runs it anew, on the same log."""

    def __init__(
        self, name: str, command: Sequence[str], *, logs: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = logs / f"{name}.log"
        self.environment = dict(environment or {})
        self.pids: list[int] = []
        """Of all that it has been, the last one last."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def start(self) -> None:
        assert not self.alive(), f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.environment}
            )
        self.pids.append(self._process.pid)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """As a crash: without a word."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(STOP_SECONDS)

    def freeze(self) -> None:
        """Its sockets stay open and nobody answers, once all its threads stand."""
        self._signal(signal.SIGSTOP)
        wait_until(self._stands, f"{self.name} stands still", seconds=STOP_SECONDS)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """In good order, or killed when that takes too long."""
        if self._process is None:
            return
        self.thaw()
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(line[:400] for line in lines[-15:])

    def wait_until(self, ready: Callable[[], bool], what: str, *, seconds: float) -> None:
        """Raises NotReady, also as soon as the program has ended."""

        def alive() -> bool:
            if not self.alive():
                raise NotReady(f"{self.name} ended before {what}:\n{self.tail()}")
            return ready()

        try:
            wait_until(alive, what, seconds=seconds)
        except TimeoutError as error:
            raise NotReady(f"{self.name}: {error}:\n{self.tail()}") from None

    def _stands(self) -> bool:
        states = []
        for path in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            # A thread may end between the look at the folder and this one.
            with contextlib.suppress(OSError):
                states.append(path.read_text().rpartition(")")[2].split()[0])
        return bool(states) and all(state == "T" for state in states)

    def _signal(self, number: signal.Signals) -> None:
        if self.alive():
            os.kill(self.pid, number)


def wait_until(ready: Callable[[], bool], what: str, *, seconds: float) -> None:
    """Asks until the answer is yes. Raises TimeoutError that tells what was waited for."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)
