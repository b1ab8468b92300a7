"""Items of a closed domain at the head of a plan: the rest goes on at the same price, and none is forgotten."""

from __future__ import annotations

import time
from pathlib import Path

from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import HandWorker, World, completed

CLOSED = "domain:closed.org"
HEAD, REST = 300_000, 40_000


def payload_of(head: int, index: int) -> dict[str, object]:
    return {"limits": [CLOSED] if index < head else [f"domain:d{index % 50}.org", "provider:x"]}


async def headed(world: World, head: int, rest: int) -> str:
    return await world.run(head + rest, payload=lambda index: payload_of(head, index), concurrency=500)


async def work_off(worker: HandWorker, count: int, most: int = 200) -> list[int]:
    """Completes so many items, a report and an acquire a call; their seqs in the order in which they came."""
    seqs: list[int] = []
    report: list[pb.OutcomeBatch] = []
    while len(seqs) < count:
        answer = await worker.acquire(min(most, count - len(seqs)), wait=10, report=report)
        assert answer.batches, f"nothing more after {len(seqs):,} of {count:,}"
        report = [
            pb.OutcomeBatch(run_id=batch.run_id, stage=batch.stage, outcomes=[completed(one) for one in batch.leases])
            for batch in answer.batches
        ]
        seqs += [lease.seq for batch in answer.batches for lease in batch.leases]
    await worker.acquire(0, report=report)
    return seqs


async def cost_of(world: World, head: int, rest: int = REST) -> float:
    """CPU µs for each of the items that are not closed."""
    for old in (await world.runs.ListRuns(pb.ListRunsRequest(states=[pb.RUN_STATE_RUNNING]))).runs:
        await world.runs.StopRun(pb.StopRunRequest(run_id=old.run_id, force=True, actor="ann"))
    await headed(world, head, rest)
    worker, began = world.worker(), time.process_time()
    await work_off(worker, rest)
    return (time.process_time() - began) / rest * 1e6


async def test_none_is_forgotten_and_the_lowest_ranks_come_first_when_it_opens(world: World) -> None:
    head, rest = 10_000, 300
    await world.limits.CloseLimit(pb.CloseLimitRequest(key=CLOSED))
    run_id = await headed(world, head, rest)
    worker = world.worker()
    assert sorted(await work_off(worker, rest)) == list(range(head, head + rest))
    await world.limits.OpenLimit(pb.OpenLimitRequest(key=CLOSED))
    assert await work_off(worker, head) == list(range(head))
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED


async def test_300000_items_of_a_closed_domain_cost_the_rest_at_most_half_as_much_again(
    tmp_path: Path, redis_url: str
) -> None:
    world = await World.start(tmp_path, redis_url, f"sqlite:///{tmp_path}/scheduler.db")
    try:
        await world.limits.CloseLimit(pb.CloseLimitRequest(key=CLOSED))
        await cost_of(world, 0, 4_000)  # warms up
        pairs: list[tuple[float, float]] = []
        # Side by side, and again when the machine had other work meanwhile.
        while not pairs or (pairs[-1][1] > 1.5 * pairs[-1][0] and len(pairs) < 3):
            pairs.append((await cost_of(world, 0), await cost_of(world, HEAD)))
        alone, behind = pairs[-1]
        assert behind <= 1.5 * alone, f"µs an item, alone and behind: {[tuple(map(round, pair)) for pair in pairs]}"
        await world.limits.OpenLimit(pb.OpenLimitRequest(key=CLOSED))
        assert await work_off(world.worker(), 1_000) == list(range(1_000))
    finally:
        await world.stop()
