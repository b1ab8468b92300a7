"""A box: namespaces of network, mounts and processes in which a cluster lives, and with which it ends.

`run(command)` runs a command inside. Three processes take part: the caller; a guard outside (`guard.py`), which starts
the box and cleans behind it; and the box's first process (`inside.py`), which prepares it and reaps. Whoever dies, by
whatever signal, takes the box along: the guard hears of the caller's end by a pipe, and the kernel kills the box's
first process when the guard is gone. Two kinds of things outlive namespaces, cgroups and the machine's own sysctls;
`machine.py` keeps account of them, so that also a guard's SIGKILL leaves nothing once the next box has started.

Nothing inside reaches the outer network: there is no route. Several boxes may live at once, they do not see each other.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["beside", "run"]

ROOT = Path(__file__).resolve().parents[3]


def run(
    command: Sequence[str], *, logs: Path, environment: Mapping[str, str] | None = None, name: str | None = None
) -> int:
    """Runs a command in a box of its own; its exit code. Its logs' folder must be there.

    A KeyboardInterrupt here ends the box, cleans, and goes on upwards.
    """
    reading, lifeline = os.pipe()
    guard = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.cluster.box.guard"),
            *(name or secrets.token_hex(4), str(reading), str(logs), "--", *command),
        ],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        pass_fds=(reading,),
        # Ctrl-C is for us: the guard hears of it by its pipe, and lets the tests say what they have seen.
        start_new_session=True,
    )
    os.close(reading)
    try:
        return guard.wait()
    finally:
        os.close(lifeline)
        guard.wait()


def beside(command: Sequence[str], *, environment: Mapping[str, str]) -> int:
    """Runs a command outside of every box: what makes boxes itself."""
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode
