"""What people see of a run of 1,000,000 items that is half done, and what 200 watchers cost one that runs.

Reads: the time of one call over gRPC, from a client's process to a scheduler's on the same machine, after a first one
of each kind. The rows are written straight into SQL; they were never analysed. Bounds: `GetRunSummary` 5 ms, a page of
`ListItems` 20 ms (median). Watchers: the same run with nobody watching and with 200 streams, in turns. Their cost is
told by CPU over all programs, the streams' own included: what two busy cores would do less of, whatever else the
machine does.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import grpc

from penstock.runtime.channel import open_channel
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2, planner_pb2_grpc, scheduler_pb2_grpc
from penstock.v1 import scheduler_pb2 as pb
from tests.bench import report
from tests.bench.usage import cpu_seconds
from tests.integration.scheduler.filled import fill_rows
from tests.servers.postgres import PostgresServer
from tests.servers.stack import Stack

ITEMS = 1_000_000
QUICK_ITEMS = 50_000
CALLS, QUICK_CALLS = 60, 20
SUMMARY_MS, PAGE_MS = 5.0, 20.0
WATCHERS = 200
WATCHED_ITEMS = 200_000
QUICK_WATCHED_ITEMS = 10_000
WATCHED_SHARE = 0.10


def connect(data: Path, service: str = "scheduler") -> grpc.aio.Channel:
    """A channel to a service of a running Penstock."""
    endpoints = json.loads((data / "endpoints.json").read_text())
    return open_channel(endpoints[service], (data / "token").read_text().strip())


async def item_parts(count: int) -> AsyncIterator[planner_pb2.CreateSourceRequest]:
    """An upload of so many items that do nothing."""
    header = planner_pb2.CreateSourceRequest.Header(kind=planner_pb2.SOURCE_KIND_ITEMS)
    yield planner_pb2.CreateSourceRequest(header=header)
    yield planner_pb2.CreateSourceRequest(file=planner_pb2.CreateSourceRequest.File(name="items.jsonl"))
    for first in range(0, count, 10_000):
        lines = (f'{{"key": "item-{n}", "payload": {{"i": {n}}}}}\n' for n in range(first, min(first + 10_000, count)))
        yield planner_pb2.CreateSourceRequest(chunk="".join(lines).encode())


async def planned(data: Path, count: int) -> str:
    """The id of a plan of so many items that do nothing."""

    async with connect(data, "planner") as channel:
        stub = planner_pb2_grpc.PlannerServiceStub(channel)
        source = await stub.CreateSource(item_parts(count), timeout=300)
        spec = planner_pb2.StageSpec(processor="noop", parameters=b"{}", concurrency=2_000)
        request = planner_pb2.CreatePlanRequest(source_id=source.source_id, stages=[spec])
        return (await stub.CreatePlan(request, timeout=300)).plan_id


def children_cpu() -> float:
    """CPU of children that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def until(
    stub: scheduler_pb2_grpc.SchedulerServiceAsyncStub, run_id: str, what: Callable[[pb.Run], bool]
) -> pb.Run:
    """The run as soon as `what` holds of it."""
    async for told in stub.WatchRun(pb.WatchRunRequest(run_id=run_id, from_now=True)):
        if what(told.run):
            return told.run
    raise AssertionError(f"run {run_id} has ended without it")


async def reads(data: Path, plan_id: str, database: Database, count: int, turns: int) -> list[report.Row]:
    async with connect(data) as channel:
        stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        run = await stub.StartRun(pb.StartRunRequest(plan_id=plan_id), timeout=30)
        run_id = run.run_id
        await stub.PauseRun(pb.RunCommand(run_id=run_id), timeout=30)
        await until(stub, run_id, lambda run: run.quiesced)
        await asyncio.to_thread(fill_rows, database, run.number, count, now_ms=int(time.time() * 1000))
        middle, failed, queued = str(count // 4), [pb.ITEM_STATE_FAILED], [pb.ITEM_STATE_QUEUED]

        def page(**request: object) -> Callable[[], Awaitable[object]]:
            return lambda: stub.ListItems(pb.ListItemsRequest(run_id=run_id, **request), timeout=30)  # type: ignore[arg-type]

        calls: dict[str, tuple[Callable[[], Awaitable[object]], float | None]] = {
            "GetRunSummary": (
                lambda: stub.GetRunSummary(pb.GetRunSummaryRequest(run_id=run_id), timeout=30),
                SUMMARY_MS,
            ),
            "GetRun": (lambda: stub.GetRun(pb.GetRunRequest(run_id=run_id), timeout=30), None),
            "ListItems, first page": (page(), PAGE_MS),
            "ListItems, in the middle": (page(page_token=middle), PAGE_MS),
            "ListItems, with payloads": (page(page_token=middle, with_payload=True), PAGE_MS),
            "ListItems, failed": (page(states=failed), PAGE_MS),
            "ListItems, running": (page(states=[pb.ITEM_STATE_RUNNING]), PAGE_MS),
            "ListItems, queued": (page(states=queued), PAGE_MS),
            "ListItems, completed": (page(states=[pb.ITEM_STATE_COMPLETED], page_token=middle), PAGE_MS),
            "ExplainItem": (
                lambda: stub.ExplainItem(pb.ExplainItemRequest(run_id=run_id, seq=count - 1), timeout=30),
                None,
            ),
            "ExplainRun": (lambda: stub.ExplainRun(pb.ExplainRunRequest(run_id=run_id), timeout=30), None),
        }
        kind = "sqlite" if database.is_sqlite else "postgresql"
        rows: list[report.Row] = []
        took: dict[str, list[float]] = {name: [] for name in calls}
        # In turns: what the machine and a scheduler that has just started do meanwhile is nobody's alone.
        for turn in range(turns + 1):
            for name, (call, _) in calls.items():
                began = time.perf_counter()
                await call()
                if turn:
                    took[name].append((time.perf_counter() - began) * 1000)
        for name, (_, bound) in calls.items():
            row: dict[str, str | int | float | None] = {
                "system": f"penstock/{kind}",
                "measure": name,
                "items": count,
                "median_ms": round(median(took[name]), 2),
                "p95_ms": round(quantiles(took[name], n=20)[18], 2),
                "bound_ms": bound,
            }
            rows.append(row)
        return rows


async def watch(data: Path, count: int) -> None:
    """So many streams of the run whose id comes on standard input, to its end. Says `ready` before."""

    async def one(stub: scheduler_pb2_grpc.SchedulerServiceAsyncStub) -> None:
        async for _ in stub.WatchRun(pb.WatchRunRequest(run_id=run_id, from_now=True)):
            pass

    async with connect(data) as channel:
        stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        await channel.channel_ready()
        print("ready", flush=True)
        run_id = sys.stdin.readline().strip()
        await asyncio.gather(*(one(stub) for _ in range(count)))


async def watched(stack: Stack, plan_id: str, watchers: int) -> tuple[float, float]:
    """Of a run of the plan while so many watch it: items per second, and CPU microseconds an item of all programs and
    the watchers."""
    data, root = stack.data, stack.supervisor.pid
    before, before_own = cpu_seconds(root), children_cpu()
    async with connect(data) as channel:
        stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        process = None
        if watchers:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bench.seeing", "watch", str(data), str(watchers)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        run = await stub.StartRun(pb.StartRunRequest(plan_id=plan_id), timeout=30)
        try:
            if process is not None:
                assert process.stdin is not None
                process.stdin.write(f"{run.run_id}\n".encode())
                await process.stdin.drain()
            run = await until(stub, run.run_id, lambda run: run.end_time.seconds > 0)
            if process is not None:
                assert await asyncio.wait_for(process.wait(), 30) == 0
        finally:
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
        assert run.counts.completed == run.counts.total, run.counts
        took = run.end_time.ToMilliseconds() - run.create_time.ToMilliseconds()
        cpu = cpu_seconds(root) - before + children_cpu() - before_own
        return run.counts.total / took * 1000, cpu / run.counts.total * 1e6


@contextmanager
def _stack(folder: Path, postgres: PostgresServer | None) -> Iterator[tuple[Stack, Database]]:
    environment = {}
    data = folder / "data"
    url = f"sqlite:///{data / 'scheduler.db'}"
    if postgres is not None:
        url = environment["PENSTOCK_SCHEDULER__DATABASE_URL"] = postgres.create_database()
    stack = Stack(data, environment=environment)
    stack.start()
    database = Database(url, "scheduler")
    try:
        yield stack, database
    finally:
        database.close()
        stack.stop()


def main(*, quick: bool = False) -> int:
    rows: list[report.Row] = []
    late: list[str] = []
    only_watching = "--watching" in sys.argv
    count = QUICK_ITEMS if quick else ITEMS
    with tempfile.TemporaryDirectory(prefix="pen-bench-") as folder:
        server = PostgresServer()
        try:
            for name, postgres in () if only_watching else (("sqlite", None), ("postgresql", server)):
                place = Path(folder) / name
                place.mkdir()
                with _stack(place, postgres) as (stack, database):
                    plan_id = asyncio.run(planned(stack.data, count))
                    rows += asyncio.run(reads(stack.data, plan_id, database, count, QUICK_CALLS if quick else CALLS))
        finally:
            server.stop()
        place = Path(folder) / "watched"
        place.mkdir()
        with _stack(place, None) as (stack, _):
            plan_id = asyncio.run(planned(stack.data, QUICK_WATCHED_ITEMS if quick else WATCHED_ITEMS))
            asyncio.run(watched(stack, plan_id, 0))  # the workers are up, and all code is loaded
            found: dict[int, list[tuple[float, float]]] = {0: [], WATCHERS: []}
            for watchers in (0, WATCHERS, WATCHERS, 0):
                found[watchers].append(asyncio.run(watched(stack, plan_id, watchers)))
    for row in rows:
        bound = row.get("bound_ms")
        if isinstance(bound, float) and float(row["median_ms"] or 0) > bound:
            late.append(f"{row['system']} {row['measure']}: {row['median_ms']} ms; the bound is {bound:g} ms")
    for watchers, measured in found.items():
        rows.append(
            {
                "system": "penstock/sqlite",
                "measure": f"{watchers} watchers",
                "items": QUICK_WATCHED_ITEMS if quick else WATCHED_ITEMS,
                "items_per_second": round(sum(speed for speed, _ in measured) / len(measured)),
                "cpu_us_per_item": round(sum(cpu for _, cpu in measured) / len(measured), 1),
            }
        )
    alone, seen = (sum(cpu for _, cpu in found[n]) for n in (0, WATCHERS))
    cost = 1 - alone / seen
    rows.append({"system": "penstock/sqlite", "measure": "watchers' share of CPU", "share": round(cost, 3)})
    if cost > WATCHED_SHARE:
        late.append(f"{WATCHERS} watchers cost {cost:.0%} of the throughput; the bound is {WATCHED_SHARE:.0%}")
    report.write("seeing", rows)
    for line in late:
        print(f"  past its bound: {line}")
    return 1 if late and not quick else 0  # small sizes and a start that counts prove nothing


if __name__ == "__main__":
    if sys.argv[1:2] == ["watch"]:
        asyncio.run(watch(Path(sys.argv[2]), int(sys.argv[3])))
        raise SystemExit(0)
    raise SystemExit(main(quick="--quick" in sys.argv))
