"""What people see of a run of 1,000,000 items that is half done, and what 200 watchers cost one that runs.

Reads: the time of one call over gRPC, from a client's process to a scheduler's on the same machine, after a first one
of each kind. The rows are written straight into SQL; they were never analysed. Bounds: `GetRunSummary` 5 ms, a page of
`ListItems` 20 ms (median). Watchers: items per second of the same run with nobody watching and with 200 streams, one
after the other, twice; the streams' own process has its CPU on the same cores.
"""

from __future__ import annotations

import asyncio
import json
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
from tests.integration.scheduler.filled import fill_rows
from tests.servers.postgres import PostgresServer
from tests.servers.stack import Stack

ITEMS = 1_000_000
QUICK_ITEMS = 100_000
CALLS = 60
SUMMARY_MS, PAGE_MS = 5.0, 20.0
WATCHERS = 200
WATCHED_ITEMS = 200_000
QUICK_WATCHED_ITEMS = 20_000
WATCHED_SHARE = 0.10


def connect(data: Path, service: str = "scheduler") -> grpc.aio.Channel:
    """A channel to a service of a running Penstock."""
    endpoints = json.loads((data / "endpoints.json").read_text())
    return open_channel(endpoints[service], (data / "token").read_text().strip())


async def planned(data: Path, count: int) -> str:
    """The id of a plan of so many items that do nothing."""

    async def parts() -> AsyncIterator[planner_pb2.CreateSourceRequest]:
        header = planner_pb2.CreateSourceRequest.Header(kind=planner_pb2.SOURCE_KIND_ITEMS)
        yield planner_pb2.CreateSourceRequest(header=header)
        yield planner_pb2.CreateSourceRequest(file=planner_pb2.CreateSourceRequest.File(name="items.jsonl"))
        for first in range(0, count, 10_000):
            lines = (
                f'{{"key": "item-{n}", "payload": {{"i": {n}}}}}\n' for n in range(first, min(first + 10_000, count))
            )
            yield planner_pb2.CreateSourceRequest(chunk="".join(lines).encode())

    async with connect(data, "planner") as channel:
        stub = planner_pb2_grpc.PlannerServiceStub(channel)
        source = await stub.CreateSource(parts(), timeout=300)
        spec = planner_pb2.StageSpec(processor="noop", parameters=b"{}", concurrency=2_000)
        request = planner_pb2.CreatePlanRequest(source_id=source.source_id, stages=[spec])
        return (await stub.CreatePlan(request, timeout=300)).plan_id


async def until(
    stub: scheduler_pb2_grpc.SchedulerServiceAsyncStub, run_id: str, what: Callable[[pb.Run], bool]
) -> pb.Run:
    """The run as soon as `what` holds of it."""
    async for told in stub.WatchRun(pb.WatchRunRequest(run_id=run_id, from_now=True)):
        if what(told.run):
            return told.run
    raise AssertionError(f"run {run_id} has ended without it")


async def reads(data: Path, plan_id: str, database: Database, count: int) -> list[report.Row]:
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
        for name, (call, bound) in calls.items():
            await call()
            took = []
            for _ in range(CALLS):
                began = time.perf_counter()
                await call()
                took.append((time.perf_counter() - began) * 1000)
            row: dict[str, str | int | float | None] = {
                "system": f"penstock/{kind}",
                "measure": name,
                "items": count,
                "median_ms": round(median(took), 2),
                "p95_ms": round(quantiles(took, n=20)[18], 2),
                "bound_ms": bound,
            }
            rows.append(row)
        return rows


async def watch(data: Path, run_id: str, count: int) -> None:
    """So many streams of one run, to its end."""

    async def one(stub: scheduler_pb2_grpc.SchedulerServiceAsyncStub) -> None:
        async for _ in stub.WatchRun(pb.WatchRunRequest(run_id=run_id, from_now=True)):
            pass

    async with connect(data) as channel:
        stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        await asyncio.gather(*(one(stub) for _ in range(count)))


async def watched(data: Path, plan_id: str, watchers: int) -> float:
    """Items per second of a run of the plan while so many watch it."""
    async with connect(data) as channel:
        stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        run = await stub.StartRun(pb.StartRunRequest(plan_id=plan_id), timeout=30)
        process = None
        if watchers:
            words = ("-m", "tests.bench.seeing", "watch", str(data), run.run_id, str(watchers))
            process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=subprocess.DEVNULL)
        try:
            run = await until(stub, run.run_id, lambda run: run.end_time.seconds > 0)
            if process is not None:
                assert await asyncio.wait_for(process.wait(), 30) == 0
        finally:
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
        assert run.counts.completed == run.counts.total, run.counts
        took = run.end_time.ToMilliseconds() - run.create_time.ToMilliseconds()
        return run.counts.total / took * 1000


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
    count = QUICK_ITEMS if quick else ITEMS
    with tempfile.TemporaryDirectory(prefix="pen-bench-") as folder:
        server = PostgresServer()
        try:
            for name, postgres in (("sqlite", None), ("postgresql", server)):
                place = Path(folder) / name
                place.mkdir()
                with _stack(place, postgres) as (stack, database):
                    plan_id = asyncio.run(planned(stack.data, count))
                    rows += asyncio.run(reads(stack.data, plan_id, database, count))
        finally:
            server.stop()
        place = Path(folder) / "watched"
        place.mkdir()
        with _stack(place, None) as (stack, _):
            plan_id = asyncio.run(planned(stack.data, QUICK_WATCHED_ITEMS if quick else WATCHED_ITEMS))
            asyncio.run(watched(stack.data, plan_id, 0))  # the workers are up, and all code is loaded
            speeds: dict[int, list[float]] = {0: [], WATCHERS: []}
            for watchers in (0, WATCHERS, WATCHERS, 0):
                speeds[watchers].append(asyncio.run(watched(stack.data, plan_id, watchers)))
    for row in rows:
        bound = row.get("bound_ms")
        if isinstance(bound, float) and float(row["median_ms"] or 0) > bound:
            late.append(f"{row['system']} {row['measure']}: {row['median_ms']} ms; the bound is {bound:g} ms")
    alone, seen = (sum(speeds[n]) / len(speeds[n]) for n in (0, WATCHERS))
    for watchers, speed in ((0, alone), (WATCHERS, seen)):
        rows.append({"system": "penstock/sqlite", "measure": f"{watchers} watchers", "items_per_second": round(speed)})
    if seen < alone * (1 - WATCHED_SHARE):
        late.append(
            f"{WATCHERS} watchers cost {1 - seen / alone:.0%} of the throughput; the bound is {WATCHED_SHARE:.0%}"
        )
    report.write("seeing", rows)
    for line in late:
        print(f"  past its bound: {line}")
    return 1 if late else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["watch"]:
        asyncio.run(watch(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
        raise SystemExit(0)
    raise SystemExit(main(quick="--quick" in sys.argv))
