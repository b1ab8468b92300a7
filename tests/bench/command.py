"""What a program costs as a processor: `cat`, which answers the item as it came, beside Python's own subprocess.run.

- *one after another*: by `subprocess.run` with the item on standard input and the answer captured, which bounds and
  cleans up nothing; by the `command` processor in this process, with all that it adds: a watcher that ends whatever the
  program leaves, limits of memory and CPU, a folder of its own, the answer checked against the schema.
- *run*: the same items through all of Penstock, from the start of a run to its last durable outcome, as many at once as
  the machine has cores.

CPU is that of all processes: the caller's, the watchers', the program's, and of a run all of Penstock's programs.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from penstock.client.resources import StageOptions
from penstock.declared.command import CommandProcessor, processor_of
from penstock.declared.declaration import Declaration, read
from penstock.declared.programs import Programs
from penstock.processor import Context, Parameters, Result, WorkItem, validate_parameters
from penstock.runtime.blobs import BlobStore
from tests.bench import report
from tests.bench.usage import cpu_seconds
from tests.servers.stack import Stack

ITEMS, QUICK_ITEMS = 1_000, 200
WARM = 20
CORES = len(os.sched_getaffinity(0))
DECLARATION = """
name = "echo"
version = "1"
kind = "command"
description = "Answers the item as it came."
argv = ["cat"]
memory_bytes = 268_435_456

[result]
type = "object"
required = ["payload"]
"""
PAYLOAD = {"product_id": "P17", "brand": "Razer", "model": "Viper", "url": "https://shop-1.example/p/17"}
Told = tuple[float, float]
"""Seconds and CPU seconds."""


def by_subprocess(count: int) -> Told:
    given = json.dumps({"payload": PAYLOAD}).encode()

    def one() -> None:
        done = subprocess.run(["cat"], input=given, capture_output=True, check=True, timeout=30)
        assert "payload" in json.loads(done.stdout)

    for _ in range(WARM):
        one()
    before, began = cpu_seconds(os.getpid()), time.perf_counter()
    for _ in range(count):
        one()
    return time.perf_counter() - began, cpu_seconds(os.getpid()) - before


def by_processor(folder: Path, count: int) -> Told:
    found = read(DECLARATION.encode(), name="echo", folder=str(folder))
    assert isinstance(found, Declaration), found
    programs = Programs()
    processor: CommandProcessor = processor_of(found, programs)()
    blobs = BlobStore(folder / "blobs")

    async def one() -> None:
        context: Context[Parameters] = Context(
            validate_parameters(type(processor), {}), blobs, asyncio.get_running_loop().time() + 30
        )
        outcome = await processor.process(WorkItem("run", 0, 0, "key", "group", PAYLOAD), context)
        assert isinstance(outcome, Result), outcome

    try:
        return asyncio.run(_counted(one, count))
    finally:
        programs.close()


async def _counted(one: Callable[[], Awaitable[None]], count: int) -> Told:
    for _ in range(WARM):
        await one()
    before, began = cpu_seconds(os.getpid()), time.perf_counter()
    for _ in range(count):
        await one()
    return time.perf_counter() - began, cpu_seconds(os.getpid()) - before


def by_run(folder: Path, count: int) -> Told:
    (folder / "processors").mkdir()
    (folder / "processors" / "echo.toml").write_text(DECLARATION)
    stack = Stack(folder / "data", environment={"PENSTOCK_PROCESSORS": str(folder / "processors")})
    stack.start()
    try:
        client, root = stack.client, stack.supervisor.pid
        for items in (2 * WARM, count):  # the workers are up, and all code is loaded
            source = client.sources.items([{"key": f"item-{at}", "payload": PAYLOAD} for at in range(items)])
            stage = StageOptions(processor="echo", concurrency=CORES)
            plan = client.plans.create(source.source_id, stages=[stage])
            before = cpu_seconds(root)
            run = client.runs.wait(client.runs.start(plan.plan_id, confirm=True).run_id)
            used = cpu_seconds(root) - before
            assert run.counts.completed == items, run.counts
        return (run.end_time.ToMilliseconds() - run.create_time.ToMilliseconds()) / 1_000, used
    finally:
        stack.stop()


def main(*, quick: bool = False) -> int:
    count = QUICK_ITEMS if quick else ITEMS
    with tempfile.TemporaryDirectory(prefix="pen-bench-") as text:
        folder = Path(text)
        told = {
            ("subprocess.run", "one after another"): by_subprocess(count),
            ("penstock command", "one after another"): by_processor(folder, count),
            ("penstock", f"run, {CORES} at once"): by_run(folder, count),
        }
    rows: list[report.Row] = []
    alone, alone_cpu = told["subprocess.run", "one after another"]
    for (system, measure), (seconds, cpu) in told.items():
        rows.append(
            {
                "system": system,
                "measure": measure,
                "items": count,
                "ms_per_item": round(seconds / count * 1_000, 2),
                "cpu_ms_per_item": round(cpu / count * 1_000, 2),
                "more_ms": round((seconds - alone) / count * 1_000, 2),
                "more_cpu_ms": round((cpu - alone_cpu) / count * 1_000, 2),
            }
        )
    report.write("command", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
