"""A burst can't take the cluster: ten runs of one item beside one of 50,000, at one scheduler and at two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import scheduler.__main__
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import HandWorker, World, completed
from tests.servers.inprocess import Served, serve

LARGE = 50_000
SMALL = 10
HELD = 100
TURNS = 30


@pytest.fixture(params=["one on sqlite", "one on postgresql", "two"])
async def faces(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> AsyncIterator[tuple[World, World]]:
    """The same world by two faces; with one scheduler they are one."""
    url = request.getfixturevalue("sqlite_url" if "sqlite" in request.param else "postgres_url")
    world = await World.start(tmp_path, redis_url, url)
    second: Served | None = None
    other = world
    try:
        if request.param == "two":
            second = await serve(scheduler.__main__.build, world.settings)
            other = World(world.settings, world.planner, second)
        yield world, other
        world.check()
    finally:
        if second is not None:
            for channel in other.channels:
                await channel.close()
            await second.stop()
        await world.stop()


async def start(world: World, plan_id: str, owner: str) -> pb.Run:
    return await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, owner=owner, actor="test"), timeout=30)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("owner", ["its own", "another"])
async def test_ten_runs_of_one_item_are_not_starved_by_one_of_50_000(faces: tuple[World, World], owner: str) -> None:
    one, other = faces
    large = await start(one, await one.plan(LARGE, concurrency=1_000), "its own")
    plans = [await one.plan(1, payload=lambda _, i=i: {"small": i}) for i in range(SMALL)]  # type: ignore[misc]
    await one.until_ready(large.number, 2 * HELD)
    workers = [one.worker("a"), other.worker("b")]
    held: dict[str, list[pb.Lease]] = {}
    for worker in workers:
        held[worker.session.session] = await worker.leases(HELD)

    small = [await start(face, plan_id, owner) for face, plan_id in zip([one, other] * SMALL, plans, strict=False)]
    missing = {run.run_id for run in small}
    taken = turns = 0
    while missing and turns < TURNS:
        worker = workers[turns % 2]
        turns += 1
        taken += await turn(worker, held[worker.session.session], large.run_id, missing)
    assert not missing, f"{len(missing)} of {SMALL} runs got nothing in {turns} turns; the large one got {taken} leases"
    assert taken <= 2 * SMALL, "what came free went to those that have least"


async def turn(worker: HandWorker, held: list[pb.Lease], large: str, missing: set[str]) -> int:
    """Ten of the large run's end, and ten leases are asked for; how many of them are of the large run again."""
    done = [completed(held.pop()) for _ in range(SMALL)]
    answer = await worker.acquire(SMALL, report=[pb.OutcomeBatch(run_id=large, stage=0, outcomes=done)])
    again = 0
    for batch in answer.batches:
        if batch.run_id == large:
            held.extend(batch.leases)
            again += len(batch.leases)
        else:
            missing.discard(batch.run_id)
            outcomes = [completed(lease) for lease in batch.leases]
            assert await worker.report(batch.run_id, outcomes) == []
    return again
