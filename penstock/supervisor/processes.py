"""What the kernel tells about processes: who is whose child, since when, with which command.

A pid alone names nobody, since pids are used again; a pid with its start time does. Everything here reads /proc and
answers "gone" rather than raising when a process ends meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "become_subreaper", "command", "descendants", "end", "identify", "signal_to", "stat_fields"]

_PR_SET_CHILD_SUBREAPER = 36
_ENDED = ("Z", "X")


@dataclass(frozen=True)
class Process:
    """A pid and its start time in clock ticks since boot: together they name one process for ever."""

    pid: int
    start_ticks: int

    def alive(self) -> bool:
        return identify(self.pid) == self


def stat_fields(pid: int) -> list[str] | None:
    """What stands in /proc/PID/stat after the command's name: state, parent, …; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name stands in parentheses and may hold anything, spaces and parentheses too.
    return text[text.rfind(")") + 2 :].split()


def identify(pid: int) -> Process | None:
    """The living process with this pid; None when there is none (or only a zombie)."""
    fields = stat_fields(pid)
    if fields is None or fields[0] in _ENDED:
        return None
    return Process(pid, int(fields[19]))


def command(pid: int) -> list[str]:
    """Its command line; empty when it is gone or hides it."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="replace") for part in raw.split(b"\0") if part]


def descendants(root: int) -> list[int]:
    """Children, their children and so on of `root`, parents first; zombies left out."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat_fields(int(entry))
            if fields is not None and fields[0] not in _ENDED:
                children.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = sorted(children.get(waiting.pop(0), ()))
        found.extend(below)
        waiting.extend(below)
    return found


def signal_to(process: Process, number: signal.Signals) -> bool:
    """Signals exactly that process; False when it is gone or not ours."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        # Checked after the descriptor is held: from here on the pid can't pass to somebody else.
        if not process.alive():
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def end(processes: Iterable[Process], *, within_seconds: float = 2.0) -> int:
    """Kills these and waits until they are gone, at most `within_seconds`; returns how many were alive."""
    killed = [process for process in processes if signal_to(process, signal.SIGKILL)]
    deadline = time.monotonic() + within_seconds
    while any(process.alive() for process in killed) and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(killed)


def become_subreaper() -> None:
    """Makes orphans below us our children, so that a worker whose scheduler died is still ours to reap and to stop."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
