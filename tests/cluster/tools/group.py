"""Runs a command in the process group that this process leads, and ends all of the group when the caller is gone.

Started as `python -I -S group.py LIFELINE_FD COMMAND…`, in a session of its own, with the standard library alone; ends
as the command ended. The caller holds the other end of the lifeline, a pipe, and no process else: however it ends, the
kernel closes that end. Go passes no signal on, so that a compiler or linker would otherwise live on for minutes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    lifeline = int(sys.argv[1])
    threading.Thread(target=_end_with_caller, args=(lifeline,), daemon=True).start()
    code = subprocess.run(sys.argv[2:], check=False).returncode
    return code if code >= 0 else 128 - code


def _end_with_caller(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    # Not past the thread that still reads.
    os._exit(main())
