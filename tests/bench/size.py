"""What size costs: a run of 1,000,000 items beside one of 10,000, and bad moments in the middle of it.

Real programs throughout; each number stands beside its bound.

- *flat*: CPU an item of all programs, from the start of a run to its last durable outcome, limits, events and budgets
  on; and the most memory that the scheduler's process ever had (its resident size, shared pages counted in full).
- *closed head*: the same with so many items of a closed domain before the others, and without them.
- *dispatch*: a run of one item every 50 ms, while workers wait. From the commit of the run, as another connection sees
  it, to the processor's own word in the worker's process. So also for items that an operator's `limits open` makes
  startable.
- *restart*, *FLUSHALL*: a run that is half done, its rows written straight into SQL; a worker played by hand over the
  real protocol holds 200 leases. From the start of the scheduler's process, or from the answer to FLUSHALL, to the
  moment when that worker has its next lease; what it holds must be neither revoked nor refused nor leased again.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock import Client
from tests.bench import report
from tests.bench.beginnings import dispatch
from tests.bench.losses import losses
from tests.bench.scheduler import plan_of, prepare, started, write_items
from tests.bench.usage import cpu_seconds, peak_mb
from tests.servers.postgres import PostgresServer
from tests.servers.stack import Stack

SMALL, LARGE = 10_000, 1_000_000
HEAD, REST = 300_000, 40_000
TIMES_FLAT, TIMES_CLOSED, MOST_MB = 1.2, 1.5, 300.0
SMALL_ROUNDS, QUICK_SMALL_ROUNDS = 4, 1
CLOSED = "domain:closed.example"
UPLOAD_BYTES = 1 << 32


@contextmanager
def stack_of(folder: Path, database: str, postgres: PostgresServer) -> Iterator[tuple[Stack, list[int]]]:
    """A Penstock, and the pids whose CPU counts."""
    environment = {"PENSTOCK_PLANNER__UPLOADS__MAX_UPLOAD_BYTES": str(UPLOAD_BYTES)}
    if database == "postgresql":
        environment["PENSTOCK_SCHEDULER__DATABASE_URL"] = postgres.create_database()
    stack = Stack(folder / "data", environment=environment)
    stack.start()
    try:
        yield stack, [stack.supervisor.pid, *([postgres.pid] if database == "postgresql" else [])]
    finally:
        stack.stop()


def row(system: str, measure: str, items: int, value: float, unit: str, bound: float | None = None) -> report.Row:
    return {
        "system": f"penstock/{system}",
        "measure": measure,
        "items": items,
        "value": round(value, 3),
        "unit": unit,
        "bound": bound,
    }


def cost(client: Client, plan_id: str, roots: list[int]) -> float:
    """CPU microseconds an item of a whole run."""
    before = cpu_seconds(*roots)
    run = client.runs.wait(started(client, plan_id).run_id)
    used = cpu_seconds(*roots) - before
    assert run.counts.completed == run.counts.total, run.counts
    return used / run.counts.total * 1e6


def flat(
    folder: Path, database: str, postgres: PostgresServer, *, small: int, large: int, rounds: int = SMALL_ROUNDS
) -> list[report.Row]:
    with stack_of(folder, database, postgres) as (stack, roots):
        client = stack.client
        prepare(client)
        plans = {}
        for count in (small, large):
            items = folder / f"{count}.jsonl"
            write_items(items, count)
            plans[count] = plan_of(client, items)
            items.unlink()
        for _ in range(2):  # the workers are up, and code that is loaded on first use is loaded
            cost(client, plans[small], roots)
        pid = stack.pids()["scheduler"]
        before = [cost(client, plans[small], roots) for _ in range(rounds)]
        of_small = peak_mb(pid)
        of_large = cost(client, plans[large], roots)
        memory = peak_mb(pid)
        after = [cost(client, plans[small], roots) for _ in range(rounds)]
    little = sum(before + after) / len(before + after)
    return [
        row(database, "CPU an item, small", small, little, "µs"),
        row(database, "CPU an item, large", large, of_large, "µs"),
        row(database, "CPU an item, large by small", large, of_large / little, "times", TIMES_FLAT),
        row(database, "scheduler's memory, small", small, of_small, "MB"),
        row(database, "scheduler's memory, large", large, memory, "MB", MOST_MB),
    ]


def closed_head(folder: Path, database: str, postgres: PostgresServer, *, head: int, rest: int) -> list[report.Row]:
    with stack_of(folder, database, postgres) as (stack, roots):
        client = stack.client
        prepare(client)
        client.limits.close(CLOSED)
        plans = {}
        for count in (0, head):
            items = folder / f"closed-{count}.jsonl"
            write_items(items, rest, head=count, head_key=CLOSED)
            plans[count] = plan_of(client, items)
            items.unlink()
        found: dict[int, list[float]] = {0: [], head: []}
        for turn, count in enumerate((0, 0, head, head, 0)):
            before = cpu_seconds(*roots)
            run = started(client, plans[count])
            for told in client.runs.watch(run.run_id, from_now=True):
                if told.run.counts.completed == rest:
                    break
            used = cpu_seconds(*roots) - before
            if count:
                client.runs.stop(run.run_id, force=True)
                client.runs.wait(run.run_id)
            if turn:  # the first warms up
                found[count].append(used / rest * 1e6)
    alone, behind = (sum(found[count]) / len(found[count]) for count in (0, head))
    return [
        row(database, "CPU an item, nothing closed", rest, alone, "µs"),
        row(database, f"CPU an item, behind {head:,} of a closed domain", rest, behind, "µs"),
        row(database, "the second by the first", rest, behind / alone, "times", TIMES_CLOSED),
    ]


def measured(database: str, postgres: PostgresServer, chosen: list[str], *, quick: bool) -> list[report.Row]:
    by, rounds = (20, QUICK_SMALL_ROUNDS) if quick else (1, SMALL_ROUNDS)
    rows: list[report.Row] = []
    for name in chosen:
        told = len(rows)
        with tempfile.TemporaryDirectory(prefix="pen-bench-") as text:
            folder = Path(text)
            if name == "flat":
                rows += flat(folder, database, postgres, small=SMALL, large=LARGE // by, rounds=rounds)
            elif name == "closed":
                rows += closed_head(folder, database, postgres, head=HEAD // by, rest=REST // by)
            elif name == "dispatch":
                found = asyncio.run(dispatch(folder, database, postgres, runs=200 // by))
                rows += [row(database, *one) for one in found]
            else:
                found = asyncio.run(losses(folder, database, postgres, count=LARGE // by, quick=quick))
                rows += [row(database, *one) for one in found]
        for one in rows[told:]:
            print("  ", *one.values(), flush=True)
    return rows


PARTS = ("flat", "closed", "dispatch", "losses")


def main(*, quick: bool = False) -> int:
    words = sys.argv[1:]
    only = [part for part in PARTS if f"--{part}" in words]
    databases = [name for name in ("sqlite", "postgresql") if f"--{name}" in words] or ["sqlite", "postgresql"]
    postgres = PostgresServer()
    rows: list[report.Row] = []
    name = "size"
    try:
        if "--large" in words:
            name, count = "size-large", int(words[words.index("--large") + 1])
            with tempfile.TemporaryDirectory(prefix="pen-bench-") as folder:
                rows = flat(Path(folder), "sqlite", postgres, small=SMALL, large=count)
        else:
            for database in databases:
                rows += measured(database, postgres, only or list(PARTS), quick=quick)
    finally:
        postgres.stop()
    report.write(name, rows)
    return report.told(report.late(rows), quick=quick)


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
