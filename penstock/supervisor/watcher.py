"""Holds a program that knows nothing of us (Redis), and ends it when the supervisor is gone.

Started as `python -I -S watcher.py LIFELINE_FD COMMAND…` with the standard library alone, so that it costs a few
megabytes and some milliseconds. It passes SIGTERM on, and ends as its child ended. The child dies with the watcher,
however that dies (parent-death signal), and the watcher with the supervisor (pipe).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> int:
    lifeline = int(sys.argv[1])
    arguments = sys.argv[2:]
    libc = ctypes.CDLL(None)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the watcher died before the signal was armed
            os._exit(70)
        os.close(lifeline)
        try:
            os.execv(arguments[0], arguments)
        except OSError as error:
            print(f"{arguments[0]} can't be started: {error.strerror}", file=sys.stderr)
            os._exit(127)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    while True:
        ready, _, _ = select.select([reading, lifeline], [], [])
        if lifeline in ready and not os.read(lifeline, 1):
            os.kill(child, signal.SIGKILL)
            return 70
        if reading in ready:
            os.read(reading, 64)
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os._exit(main())
