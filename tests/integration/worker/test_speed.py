"""What an item of a batch costs the worker itself: parsing its lease, running it, telling its outcome."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

import orjson

from penstock.runtime.blobs import BlobStore
from penstock.runtime.settings import WorkerSection
from penstock.v1 import scheduler_pb2 as pb
from worker.agent import Agent
from worker.runner import Runner

BATCHES, BATCH = 80, 250
BOUND_MICROSECONDS = 45.0
"""Three times what it takes on an idle core."""
ROUNDS = 4
"""The best one counts: a machine may be slow for a second."""


class Serving:
    """A scheduler that has its answers ready, as bytes, and reads what it is sent from bytes."""

    def __init__(self) -> None:
        self.answers = [_granted(first) for first in range(0, BATCHES * BATCH, BATCH)]
        self.told = 0
        self.done = asyncio.Event()

    async def Acquire(self, request: pb.AcquireRequest, timeout: float) -> pb.AcquireResponse:
        self._read(pb.AcquireRequest.FromString(request.SerializeToString()).outcomes)
        if not self.answers:
            await self.done.wait()
            await asyncio.sleep(3600)
        await asyncio.sleep(0)
        return pb.AcquireResponse.FromString(self.answers.pop())

    async def Report(self, request: pb.ReportRequest, timeout: float) -> pb.ReportResponse:
        self._read(pb.ReportRequest.FromString(request.SerializeToString()).outcomes)
        return pb.ReportResponse()

    def _read(self, batches: object) -> None:
        for batch in batches:  # type: ignore[attr-defined]
            assert {dict(outcome.used)["tokens"] for outcome in batch.outcomes} == {10}
            self.told += len(batch.outcomes)
        if self.told == BATCHES * BATCH:
            self.done.set()


def _granted(first: int) -> bytes:
    payload = orjson.dumps({"limits": ["domain:a", "provider:b"], "cost_micros": 7, "used": {"tokens": 10}})
    leases = [pb.Lease(seq=first + i, attempt=1, key=f"k{first + i}", payload=payload) for i in range(BATCH)]
    batch = pb.LeaseBatch(run_id="run-1", processor="noop", mode=pb.MODE_WORK, budgeted=True, leases=leases)
    return pb.AcquireResponse(batches=[batch], term_seconds=15.0).SerializeToString()


async def test_an_item_of_a_batch_costs_the_worker_little(tmp_path: Path) -> None:
    gc.collect()
    gc.freeze()  # what other tests have left in this process is not looked through on its account
    try:
        spent = min([await cost(tmp_path) for _ in range(ROUNDS)])
    finally:
        gc.unfreeze()
    assert spent < BOUND_MICROSECONDS, f"{spent:.1f} µs an item"


async def cost(tmp_path: Path) -> float:
    """Of an item, in µs of CPU."""
    serving = Serving()
    session = pb.WorkerSession(session="s", worker_class="default")
    agent = Agent(session, serving, Runner(BlobStore(tmp_path), {}), WorkerSection())  # type: ignore[arg-type]
    task = asyncio.create_task(agent.serve())
    started = time.process_time()
    await asyncio.wait_for(serving.done.wait(), 30)
    spent = (time.process_time() - started) / (BATCHES * BATCH) * 1e6
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return spent
