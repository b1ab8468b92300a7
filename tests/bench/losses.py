"""A run that is half done, and its scheduler restarted, and everything in Redis deleted.

One worker, played by hand over the real protocol, asks again as workers do: at once while it is answered, after 50 ms
while nobody is there. It holds leases all the time and renews them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import redis

from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2, planner_pb2_grpc, scheduler_pb2_grpc
from penstock.v1 import scheduler_pb2 as pb
from tests.bench.seeing import connect, item_parts, until
from tests.bench.usage import cpu_seconds
from tests.integration.scheduler.filled import fill_rows
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.servers.stack import Stack

__all__ = ["losses"]

HELD = 200
RESTART_SECONDS, FLUSH_SECONDS = 2.0, 3.0
AGAIN_SECONDS = 0.05
ROUNDS, QUICK_ROUNDS = 3, 1
WORKER_CLASS = "by-hand"
Found = tuple[str, int, float, str, float | None]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Hand:
    """The worker: everything that it was leased and has not reported, by seq."""

    stub: scheduler_pb2_grpc.LeaseServiceAsyncStub
    run_id: str
    session: pb.WorkerSession
    grant_number: int = 0
    held: dict[int, pb.Lease] = field(default_factory=dict)
    twice: list[int] = field(default_factory=list)
    revoked: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    async def lease(self, most: int) -> float:
        """Leases so many or fewer, at least one; when it had them, by the machine's monotonic clock."""
        self.grant_number += 1
        request = pb.AcquireRequest(
            session=self.session, grant_number=self.grant_number, max_leases=most, wait_seconds=10
        )
        async with asyncio.timeout(60):
            while True:
                try:
                    answer = await self.stub.Acquire(request, timeout=15)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                now = time.monotonic()
                leases = [lease for batch in answer.batches for lease in batch.leases]
                self.twice += [lease.seq for lease in leases if lease.seq in self.held]
                self.held.update((lease.seq, lease) for lease in leases)
                if leases:
                    return now
                self.grant_number += 1
                request.grant_number = self.grant_number

    async def renew(self) -> None:
        held = [pb.HeldLease(seq=one.seq, attempt=one.attempt, begun=True) for one in self.held.values()]
        batch = pb.HeldBatch(run_id=self.run_id, stage=0, leases=held)
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer = await self.stub.Renew(pb.RenewRequest(session=self.session, held=[batch]), timeout=5)
            self.revoked += [lease.seq for lease in answer.revoked]

    async def report(self) -> None:
        outcomes = [
            pb.Outcome(seq=one.seq, attempt=one.attempt, kind=pb.OUTCOME_KIND_COMPLETED) for one in self.held.values()
        ]
        batch = pb.OutcomeBatch(run_id=self.run_id, stage=0, outcomes=outcomes)
        answer = await self.stub.Report(pb.ReportRequest(session=self.session, outcomes=[batch]), timeout=30)
        self.refused += [one.reason for one in answer.refused]
        self.held.clear()


async def renewing(hand: Hand) -> None:
    while True:
        await asyncio.sleep(1.0)
        await hand.renew()


def started_at(pid: int) -> float:
    """When a process began, by the machine's monotonic clock, to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / TICKS - time.clock_gettime(time.CLOCK_BOOTTIME) + time.monotonic()


@asynccontextmanager
async def half_done(stack: Stack, url: str, count: int) -> AsyncIterator[Hand]:
    """The worker of a run of `count` items, half of which are settled."""
    async with connect(stack.data, "planner") as channel:
        stub = planner_pb2_grpc.PlannerServiceStub(channel)
        source = await stub.CreateSource(item_parts(count), timeout=300)
        spec = planner_pb2.StageSpec(processor="noop", parameters=b"{}", concurrency=2_000, worker_class=WORKER_CLASS)
        request = planner_pb2.CreatePlanRequest(source_id=source.source_id, stages=[spec])
        plan_id = (await stub.CreatePlan(request, timeout=300)).plan_id
    async with connect(stack.data) as channel:
        runs = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        run = await runs.StartRun(pb.StartRunRequest(plan_id=plan_id), timeout=30)
        await runs.PauseRun(pb.RunCommand(run_id=run.run_id), timeout=30)
        await until(runs, run.run_id, lambda run: run.quiesced)
        database = Database(url, "scheduler")
        try:
            await asyncio.to_thread(fill_rows, database, run.number, count, now_ms=int(time.time() * 1000))
        finally:
            database.close()
        await runs.ResumeRun(pb.RunCommand(run_id=run.run_id), timeout=30)
        session = pb.WorkerSession(
            session=f"session-by-hand-{run.number}", worker="hand", worker_class=WORKER_CLASS, processors={"noop": "1"}
        )
        hand = Hand(scheduler_pb2_grpc.LeaseServiceStub(channel), run.run_id, session)
        await hand.lease(HELD)
        renewals = asyncio.create_task(renewing(hand))
        try:
            yield hand
        finally:
            renewals.cancel()
        await hand.renew()
        await hand.report()
        assert not hand.twice, f"leased again while it ran: {hand.twice[:10]}"
        assert not hand.revoked, f"revoked: {hand.revoked[:10]}"
        assert not hand.refused, f"refused: {hand.refused[:10]}"
        await runs.StopRun(pb.StopRunRequest(run_id=run.run_id, force=True), timeout=30)


async def losses(folder: Path, database: str, postgres: PostgresServer, *, count: int, quick: bool) -> list[Found]:
    rounds = QUICK_ROUNDS if quick else ROUNDS
    server = RedisServer()
    environment = {"PENSTOCK_REDIS_URL": server.url}
    url = f"sqlite:///{folder / 'data' / 'scheduler.db'}"
    if database == "postgresql":
        url = environment["PENSTOCK_SCHEDULER__DATABASE_URL"] = postgres.create_database()
    stack = Stack(folder / "data", environment=environment)
    await asyncio.to_thread(stack.start)
    restarts, flushes, used = list[float](), list[float](), list[float]()
    try:
        async with half_done(stack, url, count) as hand:
            for _ in range(rounds):
                old = stack.kill("scheduler")
                leasing = asyncio.create_task(hand.lease(1))
                pid = await asyncio.to_thread(stack.restarted, "scheduler", old)
                restarts.append(await leasing - started_at(pid))
                used.append(cpu_seconds(pid))
                print("restart", restarts[-1], used[-1], flush=True)
            client = redis.Redis.from_url(server.url)
            for _ in range(rounds):
                client.flushall()
                began = time.monotonic()
                flushes.append(await hand.lease(1) - began)
            client.close()
    finally:
        await asyncio.to_thread(stack.stop)
        server.stop()
    return [
        ("first lease after a restart, half done", count, max(restarts), "s", RESTART_SECONDS),
        ("CPU of the scheduler until then", count, max(used), "s", None),
        ("next lease after FLUSHALL, half done", count, max(flushes), "s", FLUSH_SECONDS),
    ]
