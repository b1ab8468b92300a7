"""Windows: what is read of a plan, apart or as one, and from where it is read again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import sqlalchemy as sa

from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from scheduler.store.schema import lane_cursors, stages
from tests.integration.scheduler.world import HandWorker, World, completed


def closed(count: int) -> Callable[[int], dict[str, object]]:
    """Payload of the first items: they name a key that will be closed."""
    return lambda i: {"limits": ["domain:closed.org"]} if i < count else {}


async def close(world: World) -> None:
    limits = world.limits
    await limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key="domain:closed.org", concurrency=5)))
    await limits.CloseLimit(pb.CloseLimitRequest(key="domain:closed.org", actor="test", reason="a test"))


def marks(world: World) -> tuple[int, dict[str, int]]:
    database = Database(world.settings.scheduler.database_url, "scheduler")
    try:
        with database.read() as connection:
            low = connection.execute(sa.select(stages.c.cursor)).scalar_one()
            lanes = connection.execute(sa.select(lane_cursors.c.lane, lane_cursors.c.cursor)).all()
            return low, {row[0]: row[1] for row in lanes}
    finally:
        database.close()


async def mark_at(world: World, low: int) -> tuple[int, dict[str, int]]:
    """The marks as soon as the stage's is so high, or after 20 s."""
    deadline = time.monotonic() + 20
    for _ in iter(lambda: time.monotonic() < deadline and marks(world)[0] < low, False):
        await asyncio.sleep(0.05)
    return marks(world)


async def work(worker: HandWorker, run_id: str, least: int) -> list[int]:
    seqs: list[int] = []
    while len(seqs) < least:
        leases = await worker.leases(500, wait=20)
        if not leases:
            break
        seqs += [lease.seq for lease in leases]
        await worker.report(run_id, [completed(lease) for lease in leases])
    return seqs


async def test_a_closed_domain_at_the_head_is_read_apart_and_comes_in_order_when_it_opens(world: World) -> None:
    await close(world)
    run_id = await world.run(9_000, payload=closed(6_000), concurrency=500)
    worker = world.worker()
    assert await work(worker, run_id, 3_000) == list(range(6_000, 9_000))
    assert await mark_at(world, 9_000) == (9_000, {"domain:closed.org": 0})
    await world.restart_scheduler()
    worker = world.worker()
    assert await worker.leases(10, wait=0.3) == []
    await world.limits.OpenLimit(pb.OpenLimitRequest(key="domain:closed.org", actor="test", reason="a test"))
    await world.limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key="domain:closed.org", concurrency=500)))
    assert await work(worker, run_id, 6_000) == list(range(6_000))
    await world.until(run_id, lambda run: run.state == pb.RUN_STATE_COMPLETED)


async def test_the_mark_follows_what_has_rows_and_a_restart_goes_on_from_there(world: World) -> None:
    run_id = await world.run(3_000, concurrency=500)
    worker = world.worker()
    leases = await worker.leases(400)
    await worker.report(run_id, [completed(lease) for lease in leases])
    assert (await mark_at(world, 400))[0] == 400
    await world.restart_scheduler()
    assert [lease.seq for lease in await world.worker().leases(3)] == [400, 401, 402]
