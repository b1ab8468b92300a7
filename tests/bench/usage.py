"""CPU seconds and memory of processes and all that is below them, as the kernel counts them.

Memory is the proportional set size: a page shared by three processes counts a third in each, so that the sum is what
the whole really takes. CPU of processes that end meanwhile is kept by their parents once they are reaped (`cutime`), so
a root that stays sees all of it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from penstock.supervisor.processes import descendants, stat_fields

__all__ = ["MemoryWatch", "cpu_seconds", "peak_mb", "pss_mb"]

TICKS = os.sysconf("SC_CLK_TCK")
PAUSE_SECONDS = 0.5


def cpu_seconds(*roots: int) -> float:
    """User and system time of these and everything below, ended children that were reaped included."""
    total = 0
    for pid in {pid for root in roots for pid in (root, *descendants(root))}:
        total += sum(int(value) for value in (stat_fields(pid) or ())[11:15])
    return total / TICKS


def pss_mb(*roots: int) -> float:
    total = 0
    for pid in {pid for root in roots for pid in (root, *descendants(root))}:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def peak_mb(pid: int) -> float:
    """The most that one process was ever resident with, shared pages counted in full."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no memory")


class MemoryWatch:
    """The peak of the proportional set size over `roots` while it is open; `with MemoryWatch(pid) as memory: …`."""

    def __init__(self, *roots: int) -> None:
        self.peak_mb = 0.0
        self._roots = roots
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join(5)

    def _watch(self) -> None:
        while not self._closed.wait(PAUSE_SECONDS):
            self.peak_mb = max(self.peak_mb, pss_mb(*self._roots))
