"""Ends this process when its supervisor is gone.

The supervisor holds the only write end of a pipe; every program inherits the read end. When the supervisor dies,
however it dies, the read returns and the process exits at once: what it was doing is fenced by leases and
transactions, so an exit at any instant is safe.
"""

from __future__ import annotations

import os
import signal
import threading

__all__ = ["ENVIRONMENT_NAME", "inherited", "watch"]

ENVIRONMENT_NAME = "PENSTOCK_LIFELINE_FD"


def inherited() -> int | None:
    """The inherited read end, if a supervisor gave one."""
    value = os.environ.get(ENVIRONMENT_NAME)
    return int(value) if value else None


def watch() -> None:
    """Starts watching; ignores SIGINT, since the supervisor alone answers a Ctrl-C that the terminal sends to all."""
    fd = inherited()
    if fd is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        try:
            while os.read(fd, 1):
                pass
        except OSError:
            pass
        os._exit(70)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
