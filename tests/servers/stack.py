"""All of Penstock, by the command that users have: `penstock up` in a data folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.supervisor.processes import Process, end, identify, signal_to

if TYPE_CHECKING:
    from penstock import Client

__all__ = ["PENSTOCK", "Stack", "until"]

PENSTOCK = [sys.executable, "-P", "-m", "penstock"]
READY_SECONDS = 60.0
STOP_SECONDS = 25.0


def until(what: str, condition: Callable[[], Any], *, seconds: float = 20.0, pause: float = 0.05) -> Any:
    """Asks until the answer is true; fails, naming `what`, when it takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(pause)
    return answer


class Stack:
    """A running `penstock up`. `environment` is added to its own; `arguments` to its command line."""

    def __init__(
        self,
        data: Path,
        *,
        environment: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        own_group: bool = False,
    ) -> None:
        self.data = data
        self.url = ""
        self._environment = dict(environment or {})
        self._arguments = arguments
        self._own_group = own_group
        self._process: subprocess.Popen[str] | None = None
        self._client: Client | None = None
        self._seen: set[Process] = set()

    def start(self) -> float:
        """Starts it and waits for `ready`; the seconds that took."""
        began = time.monotonic()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
        environment.update(self._environment)
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data.parent / f"{self.data.name}.stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [*PENSTOCK, "up", "--data", str(self.data), *self._arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                process_group=0 if self._own_group else None,
            )
        line = self._line(READY_SECONDS)
        assert line.startswith("ready http://127.0.0.1:"), f"{line!r}; its last words:\n{self.last_words()}"
        self.url = line.split()[1]
        self.pids()
        return time.monotonic() - began

    def _line(self, seconds: float) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        assert ready, f"`penstock up` was not ready in {seconds:g} s; its last words:\n{self.last_words()}"
        return self._process.stdout.readline()

    def last_words(self) -> str:
        with contextlib.suppress(OSError):
            text = (self.data.parent / f"{self.data.name}.stderr").read_text(errors="replace")
            return "\n".join(text.splitlines()[-30:])
        return "(none)"

    @property
    def supervisor(self) -> subprocess.Popen[str]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def client(self) -> Client:
        """A synchronous SDK client of it; made on first use, closed at the stop."""
        if self._client is None:
            from penstock import Client

            self._client = Client(data=self.data)
        return self._client

    def pids(self) -> dict[str, int]:
        """Program name -> pid, as endpoints.json says now; workers as worker-1, worker-2, …"""
        found: dict[str, int] = json.loads((self.data / "endpoints.json").read_text())["pids"]
        self._seen.update(process for pid in found.values() if (process := identify(pid)))
        return found

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signals the named program; its pid."""
        pid = self.pids()[name]
        process = identify(pid)
        assert process is not None, f"{name} ({pid}) is not running"
        signal_to(process, number)
        return pid

    def restarted(self, name: str, old_pid: int, *, seconds: float = 15.0) -> int:
        """Waits until the named program runs under another pid; that pid."""

        def new_pid() -> int | None:
            with contextlib.suppress(OSError, ValueError):
                pid = self.pids().get(name)
                return pid if pid is not None and pid != old_pid and identify(pid) else None
            return None

        found: int = until(f"{name} restarted", new_pid, seconds=seconds)
        return found

    def close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def stop(self) -> int:
        """As Ctrl-C: SIGINT to the supervisor; its exit code. Whatever is left is killed, and that is a failure."""
        self.close_client()
        if self._process is None:
            return 0
        with contextlib.suppress(OSError, ValueError):
            self.pids()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait(5)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        left = end(self._seen)
        self._seen.clear()
        assert not left, f"{left} programs outlived their supervisor"
        return code

    def kill_supervisor(self, *, group: bool = False) -> None:
        """`kill -9` of the supervisor alone, or of its whole process group (needs own_group)."""
        self.close_client()
        process = self.supervisor
        with contextlib.suppress(OSError, ValueError):
            self.pids()
        if group:
            assert self._own_group, "only with own_group"
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait(5)
        if process.stdout is not None:
            process.stdout.close()
        self._process = None

    def survivors(self) -> list[int]:
        """Programs seen so far that still run."""
        return [process.pid for process in self._seen if process.alive()]
