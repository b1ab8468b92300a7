"""How long a startable item waits at low load: from the commit that makes it startable to the processor's own word.

The clocks are one: all programs of this machine. The commit is watched by a connection of its own, which asks every
fifth of a millisecond whether it sees it; what counts is the last time that it did not, so what is told is never too
little. Told too: how long it is from the time in the row, which the scheduler takes before its transaction.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psycopg

from penstock.v1 import planner_pb2, planner_pb2_grpc, scheduler_pb2_grpc
from penstock.v1 import scheduler_pb2 as pb
from tests.bench.seeing import connect
from tests.servers.postgres import PostgresServer
from tests.servers.site import install_processor
from tests.servers.stack import Stack

__all__ = ["dispatch"]

APART_SECONDS = 0.05
MEDIAN_MS, P99_MS = 5.0, 25.0
KEY = "door:front"
WARM = 20
LOOK_SECONDS = 0.0002
Found = tuple[str, int, float, str, float | None]


class Commits:
    """Another connection to the scheduler's database, and what it sees."""

    def __init__(self, data: Path, url: str) -> None:
        self._ask: Callable[[str], Any]
        if url:
            postgres = psycopg.connect(url, autocommit=True, options="-c search_path=scheduler")
            self._ask = lambda text: postgres.execute(text).fetchone()
            self.close: Callable[[], None] = postgres.close
        else:
            sqlite = sqlite3.connect(f"file:{data / 'scheduler.db'}?mode=ro", uri=True, check_same_thread=False)
            self._ask = lambda text: sqlite.execute(text).fetchone()
            self.close = sqlite.close

    async def change(self, text: str, call: Callable[[], Awaitable[Any]]) -> tuple[Any, float]:
        """What the call answers, and when what this query finds had not changed by it yet, in ms."""
        before = self._ask(text)

        def watch() -> float:
            unseen = looked = time.time_ns()
            while self._ask(text) == before:
                unseen = looked
                time.sleep(LOOK_SECONDS)
                looked = time.time_ns()
            return unseen / 1e6

        async with asyncio.timeout(30):
            watching = asyncio.create_task(asyncio.to_thread(watch))
            return await call(), await watching


def beginnings(log: Path) -> dict[str, float]:
    """Milliseconds of the machine's clock by run id."""
    found: dict[str, float] = {}
    for line in log.read_text().splitlines():
        now, run_id, _ = line.split()
        found.setdefault(run_id, int(now) / 1e6)
    return found


async def planned(data: Path, payload: dict[str, object]) -> str:
    """The id of a plan of one item."""

    async def parts() -> AsyncIterator[planner_pb2.CreateSourceRequest]:
        header = planner_pb2.CreateSourceRequest.Header(kind=planner_pb2.SOURCE_KIND_ITEMS)
        yield planner_pb2.CreateSourceRequest(header=header)
        yield planner_pb2.CreateSourceRequest(file=planner_pb2.CreateSourceRequest.File(name="items.jsonl"))
        yield planner_pb2.CreateSourceRequest(chunk=json.dumps({"key": "one", "payload": payload}).encode() + b"\n")

    async with connect(data, "planner") as channel:
        stub = planner_pb2_grpc.PlannerServiceStub(channel)
        source = await stub.CreateSource(parts(), timeout=60)
        spec = planner_pb2.StageSpec(processor="beginning-limited", parameters=b"{}")
        request = planner_pb2.CreatePlanRequest(source_id=source.source_id, stages=[spec])
        return (await stub.CreatePlan(request, timeout=60)).plan_id


async def dispatch(folder: Path, database: str, postgres: PostgresServer, *, runs: int) -> list[Found]:
    log = folder / "beginnings"
    log.touch()
    environment = install_processor(
        folder / "site",
        Path(__file__).with_name("beginning.py"),
        name="beginning-limited",
        target="beginning:LimitedBeginning",
    )
    environment["PEN_BEGINNINGS"] = str(log)
    if database == "postgresql":
        environment["PENSTOCK_SCHEDULER__DATABASE_URL"] = postgres.create_database()
    stack = Stack(folder / "data", environment=environment)
    await asyncio.to_thread(stack.start)
    try:
        async with connect(stack.data) as channel:
            stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
            limits = scheduler_pb2_grpc.LimitServiceStub(channel)
            commits = Commits(stack.data, environment.get("PENSTOCK_SCHEDULER__DATABASE_URL", ""))
            fresh = await _started(stub, commits, await planned(stack.data, {}), log, runs)
            opened = await _opened(stub, limits, commits, await planned(stack.data, {"limits": [KEY]}), log, runs)
            commits.close()
    finally:
        await asyncio.to_thread(stack.stop)
    return [*_rows("StartRun", *fresh), *_rows("OpenLimit", *opened)]


def _rows(what: str, waited: list[float], whole: list[float]) -> list[Found]:
    count = len(waited)
    return [
        (f"dispatch after {what}, median", count, median(waited), "ms", MEDIAN_MS),
        (f"dispatch after {what}, p99", count, quantiles(waited, n=100)[98], "ms", P99_MS),
        (f"dispatch from before {what}, median", count, median(whole), "ms", None),
    ]


async def _started(
    stub: scheduler_pb2_grpc.SchedulerServiceAsyncStub, commits: Commits, plan_id: str, log: Path, runs: int
) -> tuple[list[float], list[float]]:
    """How long each waited: from the commit, and from the time in the row."""
    committed: dict[str, float] = {}
    created: dict[str, float] = {}
    for number in range(WARM + runs):
        run, at = await commits.change(
            "SELECT max(number) FROM runs", lambda: stub.StartRun(pb.StartRunRequest(plan_id=plan_id), timeout=30)
        )
        if number >= WARM:
            committed[run.run_id], created[run.run_id] = at, run.create_time.ToMilliseconds()
        await asyncio.sleep(APART_SECONDS)
    return await _waited(committed, log), await _waited(created, log)


async def _opened(
    stub: scheduler_pb2_grpc.SchedulerServiceAsyncStub,
    limits: scheduler_pb2_grpc.LimitServiceAsyncStub,
    commits: Commits,
    plan_id: str,
    log: Path,
    runs: int,
) -> tuple[list[float], list[float]]:
    committed: dict[str, float] = {}
    changed: dict[str, float] = {}
    for number in range(WARM + runs):
        await limits.CloseLimit(pb.CloseLimitRequest(key=KEY), timeout=30)
        run = await stub.StartRun(pb.StartRunRequest(plan_id=plan_id), timeout=30)
        await asyncio.sleep(APART_SECONDS)
        limit, at = await commits.change(
            f"SELECT state FROM limits WHERE key = '{KEY}'",
            lambda: limits.OpenLimit(pb.OpenLimitRequest(key=KEY), timeout=30),
        )
        if number >= WARM:
            committed[run.run_id], changed[run.run_id] = at, limit.change_time.ToMilliseconds()
        await asyncio.sleep(APART_SECONDS)
    return await _waited(committed, log), await _waited(changed, log)


async def _waited(created: dict[str, float], log: Path) -> list[float]:
    async with asyncio.timeout(30):
        while not (begun := await asyncio.to_thread(beginnings, log)).keys() >= created.keys():  # noqa: ASYNC110 - other programs write
            await asyncio.sleep(0.2)
    return [begun[run_id] - at for run_id, at in created.items()]
