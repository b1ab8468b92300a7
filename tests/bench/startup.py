"""`penstock up` to ready, on a new data folder and on one that has been used; and the order of its stop."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.bench import report
from tests.bench.usage import cpu_seconds, pss_mb
from tests.servers.stack import Stack

BOUND_SECONDS = 6.0
ROUNDS = 3


def main(*, quick: bool = False) -> int:
    rows: list[report.Row] = []
    with tempfile.TemporaryDirectory(prefix="pen-bench-") as folder:
        for number in range(2 if quick else ROUNDS):
            stack = Stack(Path(folder) / "data")
            seconds = stack.start()
            try:
                pid = stack.supervisor.pid
                cpu, memory = cpu_seconds(pid), pss_mb(pid)
            finally:
                began = time.monotonic()
                stack.stop()
            rows.append(
                {
                    "system": "penstock up" + (", new folder" if number == 0 else ", used folder"),
                    "items": 1,
                    "seconds": round(seconds, 3),
                    "cpu_seconds": round(cpu, 2),
                    "peak_mb": round(memory, 1),
                    "stop_seconds": round(time.monotonic() - began, 3),
                    "bound_seconds": BOUND_SECONDS,
                }
            )
    report.write("startup", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
