"""20,000 items of a processor that does nothing: what one costs here, and what it costs Celery, in the same run.

Penstock: from the start of `penstock runs start` (its own process and CPU counted) to the last durable outcome.
Celery: from the start of its producer to the last result that it has read; CPU of worker, Redis and producer. Neither
counts starting the servers. Penstock's outcomes are on disk, fsynced; Celery's results are in the memory of Redis.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import report
from tests.bench.usage import MemoryWatch, cpu_seconds
from tests.servers.redis import RedisServer
from tests.servers.stack import PENSTOCK, Stack, until

ITEMS = 20_000
CONCURRENCY = 512
BOUND = 10.0
ROOT = Path(__file__).resolve().parents[2]


def children_cpu() -> float:
    """CPU of children that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def penstock(folder: Path, count: int) -> report.Row:
    items = folder / "items.jsonl"
    items.write_text("".join(json.dumps({"key": f"item-{i}", "payload": {"i": i}}) + "\n" for i in range(count)))
    stack = Stack(folder / "data")
    stack.start()
    try:
        root = stack.supervisor.pid
        command = [*PENSTOCK, "runs", "start", "--items", str(items), "--processor", "noop", "--data", str(stack.data)]
        # A small run first: the workers are up, and code that is loaded on first use is loaded.
        small = folder / "small.jsonl"
        small.write_text("".join(items.read_text().splitlines(keepends=True)[:500]))
        subprocess.run(
            [part if part != str(items) else str(small) for part in command] + ["--wait"],
            check=True,
            capture_output=True,
        )
        before, before_own = cpu_seconds(root), children_cpu()
        with MemoryWatch(root) as memory:
            began = time.time()
            answer = subprocess.run(
                [*command, "--concurrency", str(CONCURRENCY), "--wait", "--json"],
                capture_output=True,
                text=True,
                check=True,
            )
        run = json.loads(answer.stdout.splitlines()[-1])["run"]
        assert run["counts"]["completed"] == count, run["counts"]
        seconds = dt.datetime.fromisoformat(run["end_time"]).timestamp() - began
        cpu = cpu_seconds(root) - before + children_cpu() - before_own
    finally:
        stack.stop()
    return _row("penstock", count, seconds, cpu, memory.peak_mb)


def celery(count: int) -> report.Row:
    server = RedisServer()
    url = server.url.replace("unix://", "redis+socket://")
    environment = {**os.environ, "PEN_BENCH_REDIS": url, "PYTHONPATH": str(ROOT)}
    base = [sys.executable, "-m", "celery", "-A", "tests.bench.celery_tasks"]
    worker = subprocess.Popen(
        [*base, "worker", "-P", "prefork", "-c", "2", "--without-gossip", "--without-mingle", "-l", "ERROR"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    producer = [sys.executable, "-m", "tests.bench.celery_tasks"]
    try:
        # A small batch first: it ends once the worker is up.
        subprocess.run([*producer, "500"], env=environment, cwd=ROOT, check=True, timeout=60)
        roots = (worker.pid, server.pid)
        before, before_own = cpu_seconds(*roots), children_cpu()
        with MemoryWatch(*roots) as memory:
            began = time.monotonic()
            subprocess.run([*producer, str(count)], env=environment, cwd=ROOT, check=True, timeout=600)
            seconds = time.monotonic() - began
        cpu = cpu_seconds(*roots) - before + children_cpu() - before_own
    finally:
        worker.terminate()
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait(5)
        server.stop()
    until("celery's worker has ended", lambda: worker.poll() is not None)
    return _row("celery", count, seconds, cpu, memory.peak_mb)


def _row(system: str, count: int, seconds: float, cpu: float, peak_mb: float) -> dict[str, str | int | float | None]:
    return {
        "system": system,
        "items": count,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "peak_mb": round(peak_mb, 1),
        "items_per_second": round(count / seconds),
        "cpu_us_per_item": round(cpu / count * 1e6, 1),
    }


def main(*, quick: bool = False) -> int:
    count = 5_000 if quick else ITEMS
    with tempfile.TemporaryDirectory(prefix="pen-bench-") as folder:
        ours = penstock(Path(folder), count)
    theirs = celery(count)
    by_time = float(theirs["seconds"] or 0) / float(ours["seconds"] or 1)
    by_cpu = float(theirs["cpu_seconds"] or 0) / float(ours["cpu_seconds"] or 1)
    ratio: report.Row = {
        "system": f"celery / penstock (bound: {BOUND:g})",
        "items": count,
        "seconds": round(by_time, 2),
        "cpu_seconds": round(by_cpu, 2),
    }
    report.write("scheduler", [ours, theirs, ratio])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
