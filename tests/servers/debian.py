"""Programs of Debian's that tests start, unpacked once for all checkouts of this machine."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

from tests.cluster import tools
from tools.debian import PROGRAMS

__all__ = ["debian_program"]

MOST_SECONDS = 90.0


def debian_program(name: str) -> Path | str:
    """The program of this name in `tools.debian`, or why it can't be had here."""
    cache = tools.cache()
    folder = cache / f"debian-{name}"
    script = folder / PROGRAMS[name].name
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"Debian's {name} has no place here: {error}"
    with (cache / f"debian-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several test processes one unpacks
        if not script.exists():
            command = [sys.executable, "-m", "tools.debian", name, str(folder)]
            try:
                made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MOST_SECONDS)
            except subprocess.TimeoutExpired:
                return f"Debian's {name} can't be had here in {MOST_SECONDS:g} s"
            if made.returncode:
                last = made.stderr.strip().splitlines()[-1:] or made.stdout.strip().splitlines()[-1:] or ["no word"]
                return f"Debian's {name} can't be had here: {last[0]}"
    return script
