"""Documents of about 300 words through all of it: from the upload to both exports, by the command that users have.

Seconds count from the start of `penstock documents analyze` on a running server to its end with
the exports written. Memory is the peak of all programs and Redis together.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from penstock import Client
from tests.bench import report
from tests.bench.usage import MemoryWatch, cpu_seconds
from tests.servers.stack import PENSTOCK, Stack
from tests.texts import make_documents

WORDS = 300
SIZES = (1_000, 10_000)


def one(folder: Path, count: int) -> report.Row:
    documents = folder / f"documents-{count}"
    make_documents(documents, count, words=WORDS, seed=7)
    stack = Stack(folder / f"data-{count}")
    stack.start()
    try:
        root = stack.supervisor.pid
        before = cpu_seconds(root)
        with MemoryWatch(root) as memory:
            began = time.monotonic()
            result = subprocess.run(
                [
                    *(*PENSTOCK, "documents", "analyze", str(documents), "--rows", "0"),
                    *("--data", str(stack.data), "--export", str(folder / "results.csv")),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                env={k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")},
            )
            with Client(data=stack.data) as client, (folder / "results.json").open("wb") as file:
                for piece in client.documents.export(1, "json"):
                    file.write(piece)
            seconds = time.monotonic() - began
        cpu = cpu_seconds(root) - before
        assert result.returncode == 0, f"exit code {result.returncode}; see {stack.data}"
    finally:
        stack.stop()
    return {
        "system": "penstock",
        "items": count,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_mb": round(memory.peak_mb, 1),
        "documents_per_second": round(count / seconds, 1),
        "words_each": WORDS,
    }


def main(*, quick: bool = False) -> int:
    rows = []
    with tempfile.TemporaryDirectory(prefix="pen-bench-") as folder:
        for count in SIZES[:1] if quick else SIZES:
            rows.append(one(Path(folder), count))
    report.write("documents", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
