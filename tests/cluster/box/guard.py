"""The guard of one box: starts it, ends it when its caller is gone, and cleans behind it.

`python -m tests.cluster.box.guard NAME LIFELINE LOGS -- COMMAND…`; ends as the command has ended. LIFELINE is a pipe
that closes when the caller ends or wants no more: the command is then interrupted, and killed with its box when it does
not end in seconds. Dies the guard itself, the kernel kills the box.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.box import machine
from tests.cluster.box.place import Place

UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_INTERRUPT_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


def main(words: list[str]) -> int:
    name, lifeline, logs, _, *command = words
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(128 + signal.SIGTERM))
    place = Place(name=name, state=Path(tempfile.mkdtemp(prefix="penstock-box-")), logs=Path(logs))
    entry = machine.enter(name, place.state)
    try:
        return _guarded(place, command, lifeline=int(lifeline))
    finally:
        # Once begun, cleaning ends only by SIGKILL.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        machine.leave(entry)
        shutil.rmtree(place.state, ignore_errors=True)


def _guarded(place: Place, command: list[str], *, lifeline: int) -> int:
    # Read before the fork: between fork and exec no more than a call of the C library is safe.
    prctl = ctypes.CDLL(None).prctl
    box = subprocess.Popen(
        [*UNSHARE, sys.executable, "-m", "tests.cluster.box.inside", *command],
        env={**os.environ, **place.environment()},
        preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    try:
        ended = os.pidfd_open(box.pid)
        try:
            readable, _, _ = select.select([ended, lifeline], [], [])
            if ended not in readable:
                for pid in _children(box.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGINT)
                select.select([ended], [], [], _INTERRUPT_SECONDS)
        finally:
            os.close(ended)
    finally:
        first = _children(box.pid)
        if box.poll() is None:
            box.kill()
        code = box.wait()
        _gone(first)
    return code if code >= 0 else 128 - code


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _gone(pids: list[int]) -> None:
    """Waits until a box's first process has ended: with it all others have."""
    deadline = time.monotonic() + _INTERRUPT_SECONDS
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
