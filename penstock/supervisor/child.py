"""One program under the supervisor: how it is started, and when it is started again after it died.

At once after a life of some length; else after a pause that doubles from 0.2 s to 5 s. It is never given up: what it
waits for (a disk, a database) may come back.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.runtime.pauses import doubled
from penstock.supervisor.processes import Process, identify

__all__ = ["Child"]

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
STEADY_SECONDS = 10.0
"""A program that lived so long is not in trouble: its next start is at once."""


@dataclass
class Child:
    """`process` is None while it is away; then `due` (monotonic seconds) says when it is started again."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    lifeline: int
    process: Process | None = None
    due: float = 0.0
    starts: int = 0
    exit_code: int | None = None
    _started: float = 0.0
    _early_deaths: int = 0
    _popen: subprocess.Popen[bytes] | None = None

    def start(self, now: float) -> None:
        """Starts it. Raises OSError when that can't be done (no memory, no processes left)."""
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        # A Ctrl-C of the terminal goes to the whole group, and the supervisor alone answers it: the program is born
        # with SIGINT blocked, so that not even its first milliseconds can be hit.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._popen = subprocess.Popen(
                list(self.arguments),
                env=dict(self.environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                pass_fds=(self.lifeline,),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            os.close(descriptor)
        # It may have died already; it stays a zombie until we reap it, so the pid is still its own.
        self.process = identify(self._popen.pid) or Process(self._popen.pid, 0)
        self.starts += 1
        self._started = now
        self.exit_code = None

    def died(self, exit_code: int, now: float) -> None:
        """Notes its end, which somebody has reaped, and when it is due again."""
        if self._popen is not None:
            self._popen.returncode = exit_code  # reaped by waitpid(-1): Popen must not wait for it again
        self.process = None
        self.exit_code = exit_code
        if now - self._started >= STEADY_SECONDS:
            self._early_deaths = 0
        pause = (
            doubled(FIRST_PAUSE_SECONDS, self._early_deaths - 1, LONGEST_PAUSE_SECONDS) if self._early_deaths else 0.0
        )
        self._early_deaths += 1
        self.due = now + pause
