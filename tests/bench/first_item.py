"""The first item of a run of a large catalog, and how large the scheduler is for it, beside a catalog of 10,000 rows.

All by the client that users have, each catalog on a stack of its own: it is registered, a plan of all its rows is made
and kept, then started. From the call to the processor's own first word, in the worker's process. `first item`: nothing
ran in that stack before, and nothing of the plan was read. `later`: the next starts. Each run goes on until
10,000 items have completed, with all that follows of windows and commits, and is stopped by force. So both schedulers
do the same work, and may be of the same size: the most that the process was ever resident with, shared
pages counted in full. The same once more where each row has a limit by domain, one of fifty, that lets few run at once.

`make bench ARGS="first_item --large 10000000"`: at that size; some minutes, 5 GB of disk.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from penstock import Client
from penstock.client.resources import StageOptions
from tests.bench import report
from tests.bench.beginnings import beginnings
from tests.bench.usage import peak_mb
from tests.servers.site import install_processor
from tests.servers.stack import Stack, until
from tests.snapshots import write_rows

SMALL, LARGE, QUICK_LARGE = 10_000, 1_000_000, 50_000
COMPLETED, QUICK_COMPLETED = 10_000, 2_000
LATER = 3
FIRST_SECONDS = 3.0
TIMES_MEMORY = 1.1
"""No larger: what schedulers that did the same differ by."""
DOMAIN_CONCURRENCY = 100
BOUNDS = {1_000_000: (6.0, 2.0), 10_000_000: (60.0, 30.0)}
"""Seconds to register so many rows, and to plan all of them."""
PROCESSORS = {"beginning": ("Beginning", ""), "beginning-limited": ("LimitedBeginning", ", limits")}
"""By name: the class, and how its rows are called."""


def row(measure: str, items: int, value: float, unit: str, bound: float | None = None) -> report.Row:
    return {
        "system": "penstock/sqlite",
        "measure": measure,
        "items": items,
        "value": round(value, 3),
        "unit": unit,
        "bound": bound,
    }


def first_seconds(client: Client, plan_id: str, log: Path, *, completed: int) -> float:
    """Starts a run of the plan and stops it after so many items; seconds from the call to its first item."""
    called = time.time_ns() / 1e6
    run = client.runs.start(plan_id, confirm=True)
    until("the first item", lambda: run.run_id in beginnings(log), seconds=60)
    seconds = (beginnings(log)[run.run_id] - called) / 1_000
    for some in client.runs.watch(run.run_id, from_now=True):
        if some.run.counts.completed >= completed:
            break
    if run.counts.total > completed:
        client.runs.stop(run.run_id, force=True)
    client.runs.wait(run.run_id)
    log.write_text("")
    return seconds


def measured(folder: Path, count: int, *, completed: int) -> Iterator[report.Row]:
    """The last row is the memory of the scheduler."""
    log, rows = folder / "beginnings", folder / "rows"
    rows.mkdir(parents=True)
    log.touch()
    environment = {"PEN_BEGINNINGS": str(log), "PENSTOCK_PLANNER__SOURCE_FOLDERS": str(rows)}
    for name, (of, _) in PROCESSORS.items():
        module = Path(__file__).with_name("beginning.py")
        environment |= install_processor(folder / "site", module, name=name, target=f"beginning:{of}")
    register_seconds, plan_seconds = BOUNDS.get(count, (None, None))
    place = rows / "rows.parquet"
    write_rows(place, count)
    stack = Stack(folder / "data", environment=environment)
    stack.start()
    try:
        client = stack.client
        client.limits.set("domain:*", concurrency=DOMAIN_CONCURRENCY)
        began = time.monotonic()
        source_id = client.sources.add("rows", server_path=str(place), kind="catalog").source_id
        yield row("register", count, time.monotonic() - began, "s", register_seconds)
        for name, (_, kind) in PROCESSORS.items():
            began = time.monotonic()
            plan = client.plans.create(source_id, stages=[StageOptions(processor=name)])
            yield row(f"plan{kind}", count, time.monotonic() - began, "s", None if kind else plan_seconds)
            first, *later = [first_seconds(client, plan.plan_id, log, completed=completed) for _ in range(1 + LATER)]
            yield row(f"first item{kind}", count, first, "s", FIRST_SECONDS)
            yield row(f"first item{kind}, later", count, median(later), "s", FIRST_SECONDS)
        yield row("planner's memory", count, peak_mb(stack.pids()["planner"]), "MB")
        yield row("scheduler's memory", count, peak_mb(stack.pids()["scheduler"]), "MB")
    finally:
        stack.stop()


def main(*, quick: bool = False) -> int:
    words = sys.argv[1:]
    asked = int(words[words.index("--large") + 1]) if "--large" in words else 0
    large, completed = (QUICK_LARGE, QUICK_COMPLETED) if quick else (LARGE, COMPLETED)
    rows: list[report.Row] = []
    memory = []
    for count in (SMALL, asked or large):
        with tempfile.TemporaryDirectory(prefix="pen-bench-") as folder:
            for one in measured(Path(folder), count, completed=completed):
                rows.append(one)
                print("  ", *one.values(), flush=True)
        memory.append(float(rows[-1]["value"] or 0))
    times = memory[1] / memory[0]
    rows.append(row("scheduler's memory, large by small", asked or large, times, "times", TIMES_MEMORY))
    report.write("first_item-large" if asked else "first_item", rows)
    return report.told(report.late(rows), quick=quick)


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
