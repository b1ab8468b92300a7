"""A planner, a scheduler, a Redis and a database, all real, and workers played by hand over the real lease protocol."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import orjson
import redis.asyncio
import sqlalchemy as sa

import planner.__main__
import scheduler.__main__
from penstock.runtime.channel import OPTIONS
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2 as plans
from penstock.v1 import planner_pb2_grpc, scheduler_pb2_grpc
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.states import ItemState
from scheduler.store.schema import events, items, runs, stages
from tests.servers.inprocess import Served, serve
from tests.servers.ports import free_port

__all__ = [
    "HASTY_SECONDS",
    "TERM_SECONDS",
    "HandWorker",
    "World",
    "completed",
    "failed",
    "in_vain",
    "throttled",
]

TERM_SECONDS = 60.0
"""No test outlives a lease: what returns, or starts again, does so for another reason."""
HASTY_SECONDS = 1.0
"""The term where a test waits for leases to end."""
_IDS = itertools.count(1)


def completed(lease: pb.Lease, result: object = None) -> pb.Outcome:
    return pb.Outcome(
        seq=lease.seq,
        attempt=lease.attempt,
        kind=pb.OUTCOME_KIND_COMPLETED,
        result=b"" if result is None else orjson.dumps(result),
    )


def failed(lease: pb.Lease, error: str = "it broke", *, permanent: bool = False, no_try: bool = False) -> pb.Outcome:
    return pb.Outcome(
        seq=lease.seq,
        attempt=lease.attempt,
        kind=pb.OUTCOME_KIND_FAILED,
        error_kind="item",
        error=error,
        permanent=permanent,
        no_try=no_try,
    )


def throttled(lease: pb.Lease, key: str, retry_after_seconds: float = 0.0) -> pb.Outcome:
    return pb.Outcome(
        seq=lease.seq,
        attempt=lease.attempt,
        kind=pb.OUTCOME_KIND_THROTTLED,
        limit_key=key,
        retry_after_seconds=retry_after_seconds,
    )


@dataclass
class HandWorker:
    """A worker whose every call the test makes."""

    stub: scheduler_pb2_grpc.LeaseServiceAsyncStub
    session: pb.WorkerSession
    grant_number: int = 0

    async def acquire(
        self,
        most: int,
        *,
        wait: float = 5.0,
        report: list[pb.OutcomeBatch] | None = None,
        grant_number: int | None = None,
    ) -> pb.AcquireResponse:
        if grant_number is None:
            self.grant_number += 1
            grant_number = self.grant_number
        return await self.stub.Acquire(
            pb.AcquireRequest(
                session=self.session,
                grant_number=grant_number,
                max_leases=most,
                wait_seconds=wait,
                outcomes=report or [],
            ),
            timeout=30,
        )

    async def leases(self, most: int, *, wait: float = 5.0) -> list[pb.Lease]:
        response = await self.acquire(most, wait=wait)
        return [lease for batch in response.batches for lease in batch.leases]

    async def report(self, run_id: str, outcomes: list[pb.Outcome], *, stage: int = 0) -> list[str]:
        """Reasons of the refused ones."""
        batch = pb.OutcomeBatch(run_id=run_id, stage=stage, outcomes=outcomes)
        response = await self.stub.Report(pb.ReportRequest(session=self.session, outcomes=[batch]), timeout=10)
        return [answer.reason for answer in response.refused]

    async def renew(self, run_id: str, leases: list[pb.Lease], *, begun: bool = True) -> pb.RenewResponse:
        held = [pb.HeldLease(seq=lease.seq, attempt=lease.attempt, begun=begun) for lease in leases]
        batch = pb.HeldBatch(run_id=run_id, stage=0, leases=held)
        return await self.stub.Renew(pb.RenewRequest(session=self.session, held=[batch]), timeout=10)

    async def end(self) -> None:
        await self.stub.EndSession(pb.EndSessionRequest(session=self.session), timeout=10)


async def in_vain(world: World, worker: HandWorker, run_id: str, what: Callable[[pb.Run], bool]) -> pb.Run:
    """The run as soon as `what` holds of it: work is asked for until then, and none is given."""
    deadline = time.monotonic() + 30
    while True:
        assert await worker.leases(2, wait=0.3) == []
        run = await world.get(run_id)
        if what(run):
            return run
        assert time.monotonic() < deadline, f"not within 30 s; the run is {run}"


@dataclass
class World:
    settings: Settings
    planner: Served
    scheduler: Served
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    @classmethod
    async def start(
        cls,
        folder: Path,
        redis_url: str,
        database_url: str,
        *,
        knows_scheduler: bool = False,
        planner_database_url: str = "",
        redis_ca_file: Path | None = None,
        **scheduler_settings: object,
    ) -> World:
        """knows_scheduler: the planner reads results of it, and sources in FOLDER/served."""
        port = free_port() if knows_scheduler else 0
        settings = Settings.model_validate(
            {
                "blobs": folder / "blobs",
                "redis_url": redis_url,
                "redis_ca_file": redis_ca_file,
                "planner": {
                    "database_url": planner_database_url or f"sqlite:///{folder}/planner.db",
                    "source_folders": [folder / "served"],
                },
                "scheduler_address": f"127.0.0.1:{port}" if port else "",
                "scheduler": {
                    "database_url": database_url,
                    "lease_term_seconds": TERM_SECONDS,
                    "sweep_seconds": 0.05,
                    "retry_first_seconds": 0.1,
                    **scheduler_settings,
                },
            }
        )
        planned = await serve(planner.__main__.build, settings)
        settings = settings.model_copy(update={"planner_address": planned.address})
        scheduled = await serve(scheduler.__main__.build, settings, address=f"127.0.0.1:{port}")
        return cls(settings, planned, scheduled)

    async def stop(self) -> None:
        for channel in self.channels:
            await channel.close()
        await self.scheduler.stop()
        await self.planner.stop()

    async def restart_scheduler(self) -> None:
        """As after a kill: a new process at the same address."""
        await self.scheduler.crash()
        await self.start_scheduler()

    async def start_scheduler(self) -> None:
        self.scheduler = await serve(scheduler.__main__.build, self.settings, address=self.scheduler.address)
        await asyncio.wait_for(self.channel().channel_ready(), 10)

    def channel(self, address: str = "") -> grpc.aio.Channel:
        """To the scheduler, or to `address`; closed at the stop."""
        options = [*OPTIONS, ("grpc.initial_reconnect_backoff_ms", 50)]
        channel = grpc.aio.insecure_channel(address or self.scheduler.address, options=options)
        self.channels.append(channel)
        return channel

    @property
    def runs(self) -> scheduler_pb2_grpc.SchedulerServiceAsyncStub:
        return scheduler_pb2_grpc.SchedulerServiceStub(self.channel())

    @property
    def limits(self) -> scheduler_pb2_grpc.LimitServiceAsyncStub:
        return scheduler_pb2_grpc.LimitServiceStub(self.channel())

    def worker(self, name: str = "hand") -> HandWorker:
        session = pb.WorkerSession(
            session=f"session-{name}-{next(_IDS)}", worker=name, worker_class="default", processors={"noop": "1"}
        )
        return HandWorker(scheduler_pb2_grpc.LeaseServiceStub(self.channel()), session)

    async def plan(
        self,
        count: int,
        *,
        processor: str = "noop",
        parameters: object = None,
        padding: int = 0,
        payload: Callable[[int], dict[str, object]] = lambda i: {},
        group: Callable[[int], str] = lambda i: "",
        **settings: Any,
    ) -> str:
        """The id of a plan of `count` items, each with so many bytes besides, and what `payload` says of it (for
        `noop`: its limits, cost …); `settings` are those of its stage."""
        stub = planner_pb2_grpc.PlannerServiceStub(self.channel(self.planner.address))
        extra = {"x": "x" * padding} if padding else {}
        lines = b"".join(
            orjson.dumps({"key": f"k{i}", "group": group(i), "payload": {"i": i} | extra | payload(i)}) + b"\n"
            for i in range(count)
        )

        async def parts() -> AsyncIterator[plans.CreateSourceRequest]:
            header = plans.CreateSourceRequest.Header(kind=plans.SOURCE_KIND_ITEMS)
            yield plans.CreateSourceRequest(header=header)
            yield plans.CreateSourceRequest(file=plans.CreateSourceRequest.File(name="items.jsonl"))
            for first in range(0, len(lines), 1 << 20):
                yield plans.CreateSourceRequest(chunk=lines[first : first + (1 << 20)])

        source = await stub.CreateSource(parts())
        spec = plans.StageSpec(processor=processor, parameters=orjson.dumps(parameters or {}), **settings)
        plan = await stub.CreatePlan(plans.CreatePlanRequest(source_id=source.source_id, stages=[spec]))
        return plan.plan_id

    async def run(self, count: int, **settings: Any) -> str:
        """Starts a run of such a plan; its id."""
        plan_id = await self.plan(count, **settings)
        run = await self.runs.StartRun(pb.StartRunRequest(plan_id=plan_id), timeout=10)
        return run.run_id

    async def get(self, run_id: str) -> pb.Run:
        return await self.runs.GetRun(pb.GetRunRequest(run_id=run_id), timeout=10)

    async def until(self, run_id: str, what: Callable[[pb.Run], bool], *, seconds: float = 30.0) -> pb.Run:
        """The run as soon as `what` holds; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            run = await self.get(run_id)
            if what(run):
                return run
            assert time.monotonic() < deadline, f"not within {seconds} s; the run is {run}"
            await asyncio.sleep(0.02)

    async def until_ready(self, number: int, count: int, *, seconds: float = 20.0) -> None:
        """Waits until so many items of a run's first stage stand ready in Redis."""
        client = redis.asyncio.Redis.from_url(self.settings.redis_url)
        try:
            async with asyncio.timeout(seconds):
                name = f"{self.settings.redis_prefix}:{{s}}:ready:{number}:0"
                while await client.zcard(name) < count:  # noqa: ASYNC110 - another program fills it
                    await asyncio.sleep(0.02)
        finally:
            await client.aclose()

    async def events(self, run_id: str, *types: str) -> list[pb.Event]:
        response = await self.runs.ListEvents(
            pb.ListEventsRequest(run_id=run_id, types=types, page_size=1000), timeout=10
        )
        return list(response.events)

    def check(self) -> None:
        """What must always hold between rows: counters say what the rows say, events have no gaps."""
        database = Database(self.settings.scheduler.database_url, "scheduler")
        try:
            with database.read() as connection:
                for run in connection.execute(sa.select(runs).where(runs.c.archive.is_(None))):
                    numbers = connection.execute(
                        sa.select(events.c.number).where(events.c.run == run.number).order_by(events.c.number)
                    ).scalars()
                    assert list(numbers) == list(range(1, run.event_number + 1)), "event numbers have gaps"
                    for stage in connection.execute(sa.select(stages).where(stages.c.run == run.number)):
                        where = sa.and_(items.c.run == run.number, items.c.stage == stage.stage)
                        query = sa.select(items.c.state, sa.func.count()).where(where).group_by(items.c.state)
                        rows = {row[0]: row[1] for row in connection.execute(query)}
                        for state in (ItemState.RUNNING, ItemState.RETRY, ItemState.COMPLETED, ItemState.FAILED):
                            assert getattr(stage, state) == rows.get(state, 0), (state, stage, rows)
                        settled = connection.execute(
                            sa.select(items.c.settle_number).where(where, items.c.settle_number.is_not(None))
                        ).scalars()
                        found = list(settled)
                        assert len(set(found)) == len(found), "a settle number was used twice"
        finally:
            database.close()
