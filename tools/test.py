"""`make test`: runs pytest, and fails if a process of the tests is left afterwards (and ends it).

Whatever tests start carries a mark in its environment, so that what outlives them is found by it, not by its name.
The whole suite goes over the cores, a file at a time, in the order in which files are collected (`tests/conftest.py`
puts the long ones first); what is named (ARGS) runs in one process.
CI's machines are shared and stall for seconds: there (PEN_CI) what failed is named, and must pass when it runs alone.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "PEN_TEST_RUN"
FAILED = 1
"""What pytest ends with when it has run everything, and something failed."""
ONCE_MORE = ("--last-failed", "--last-failed-no-failures", "none")
MOST_PROCESSES = 4
"""Each has servers of its own."""
MORE_THAN_CORES = 1
"""A third of the time tests wait for a lease to end, a program to come back, a disk: another one runs meanwhile."""
HISTORIES = "250"
"""Of the scheduler's stateful test, on each database, while all tests run: the 500 that it has by itself are minutes of
CPU (make test ARGS=tests/integration/scheduler/test_stateful.py), and find what no fewer are known to: of the museum's
defects most fall within 26 of them, the double charge on resume at the 173rd. 150 do not find that one."""
GRACE_SECONDS = 5.0


def marked(mark: str) -> dict[int, str]:
    """Living processes with the mark, other than this one: pid -> command line."""
    found = {}
    needle = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{entry}/environ").read_bytes()
            words = Path(f"/proc/{entry}/cmdline").read_bytes()
        except OSError:
            continue
        if needle in environment and words:
            found[int(entry)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def main() -> int:
    mark = secrets.token_hex(8)
    environment = {**os.environ, MARK: mark}
    environment.pop("PYTHONPATH", None)
    # Where it is set, every program that a test starts compiles our modules anew: an eighth of its start.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if not sys.argv[1:]:
        environment.setdefault("PEN_HISTORIES", HISTORIES)
    pytest = [sys.executable, "-P", "-m", "pytest"]
    processes = min(MOST_PROCESSES, (os.cpu_count() or 1) + MORE_THAN_CORES)
    spread = ["--numprocesses", str(processes), "--dist", "loadfile"]
    code = subprocess.run([*pytest, *(sys.argv[1:] or spread)], env=environment, check=False).returncode
    if code == FAILED and environment.get("PEN_CI"):
        print("test: what failed above, once more and alone", flush=True)
        code = subprocess.run([*pytest, *ONCE_MORE], env=environment, check=False).returncode
        print(f"test: {'failed again' if code else 'it passed: the failures above are not of every run'}", flush=True)
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid, words in left.items():
        print(f"test: left running: {pid} {words[:150]}", file=sys.stderr)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return code or (1 if left else 0)


if __name__ == "__main__":
    raise SystemExit(main())
