"""What was lost with its worker runs alone: an item that kills its workers is blamed, whichever scheduler sees it, and
those that waited beside it are not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import scheduler.__main__
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain import outcomes
from tests.integration.scheduler.world import HandWorker, World, completed
from tests.servers.inprocess import serve

TERM_SECONDS = 3.0
"""Long enough for what these tests do within one."""


@pytest.fixture
async def slow(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[World]:
    one = await World.start(tmp_path, redis_url, database_url, lease_term_seconds=TERM_SECONDS)
    try:
        yield one
        one.check()
    finally:
        await one.stop()


async def taken(worker: HandWorker, run_id: str, count: int) -> list[pb.Lease]:
    """So many leases, held by renewing what came first."""
    leases: list[pb.Lease] = []
    deadline = time.monotonic() + 40
    while len(leases) < count and time.monotonic() < deadline:
        leases += await worker.leases(count - len(leases), wait=1)
        await worker.renew(run_id, leases, begun=False)
    assert len(leases) == count
    return leases


async def suspects(world: World, run_id: str, count: int) -> tuple[HandWorker, list[pb.Lease]]:
    """A worker with so many leases of items that were lost with their workers."""
    while True:
        worker = world.worker()
        leases = await taken(worker, run_id, count)
        if all(lease.alone for lease in leases):
            return worker, leases
        await worker.renew(run_id, leases)  # begun; and it dies


async def tries(world: World, run_id: str, count: int) -> list[int]:
    found = await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, page_size=count))
    return [item.tries for item in found.items]


async def test_neighbours_of_one_that_kills_its_worker_alone_are_never_blamed(
    slow: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = slow
    monkeypatch.setattr(outcomes, "FREE_LOSSES", 0)
    run_id = await world.run(4, concurrency=4, max_tries=5)
    worker, leases = await suspects(world, run_id, 4)
    before = await tries(world, run_id, 4)
    held = [pb.HeldLease(seq=one.seq, attempt=one.attempt, begun=one.seq == leases[0].seq) for one in leases]
    request = pb.RenewRequest(session=worker.session, held=[pb.HeldBatch(run_id=run_id, stage=0, leases=held)])
    await worker.stub.Renew(request, timeout=10)  # the first is run, and kills it
    again = world.worker()
    found = await taken(again, run_id, 4)
    assert await tries(world, run_id, 4) == [before[0] + 1, *before[1:]]
    assert await again.report(run_id, [completed(lease) for lease in found]) == []


async def test_of_what_goes_alone_each_worker_is_granted_one_and_none_of_them_waits_for_another(slow: World) -> None:
    """Granted to one worker, long items would run one after another there while other workers have nothing to do."""
    world = slow
    run_id = await world.run(6, concurrency=6, max_tries=5)
    dead = world.worker()
    lost = await taken(dead, run_id, 4)
    await dead.renew(run_id, lost)  # begun; and it dies
    one = world.worker("one")
    beside = await taken(one, run_id, 2)
    assert [(lease.seq, lease.alone) for lease in beside] == [(4, False), (5, False)]
    assert await one.report(run_id, [completed(lease) for lease in beside]) == []
    workers = [one, *(world.worker(f"free-{n}") for n in range(3))]
    granted = [await taken(worker, run_id, 1) for worker in workers[:1]]
    granted += [await worker.leases(6, wait=5) for worker in workers[1:]]
    assert [(lease.seq, lease.alone) for leases in granted for lease in leases] == [(n, True) for n in range(4)]
    for worker, leases in zip(workers, granted, strict=True):
        assert await worker.report(run_id, [completed(lease) for lease in leases]) == []
    await world.until(run_id, lambda run: run.state == pb.RUN_STATE_COMPLETED)


@pytest.fixture
async def pair(tmp_path: Path, redis_url: str, postgres_url: str) -> AsyncIterator[tuple[World, World]]:
    one = await World.start(tmp_path, redis_url, postgres_url, lease_term_seconds=TERM_SECONDS)
    second = await serve(scheduler.__main__.build, one.settings)
    other = World(one.settings, one.planner, second)
    try:
        yield one, other
        one.check()
    finally:
        for channel in other.channels:
            await channel.close()
        await second.stop()
        await one.stop()


async def test_what_a_worker_says_to_one_scheduler_before_it_runs_a_suspect_the_other_knows(
    pair: tuple[World, World],
) -> None:
    one, other = pair
    run_id = await one.run(1, max_tries=5)
    worker, leases = await suspects(one, run_id, 1)
    before = await tries(one, run_id, 1)
    await worker.renew(run_id, leases, begun=True)
    await one.scheduler.crash()
    again = other.worker()
    found = await taken(again, run_id, 1)
    assert await tries(other, run_id, 1) == [before[0] + 1], "it had begun: so it was told before it did"
    assert found[0].alone
    assert await again.report(run_id, [completed(found[0])]) == []
    one.scheduler = await serve(scheduler.__main__.build, one.settings, address=one.scheduler.address)
