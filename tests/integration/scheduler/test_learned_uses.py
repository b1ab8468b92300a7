"""What items really use of a rate takes the place of its estimate while their stage runs."""

from __future__ import annotations

from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import World, completed

ESTIMATE = 100.0
ENOUGH = 20


async def test_an_estimate_gives_way_to_what_items_use(world: World) -> None:
    # A tenth of a second fills it, and holds ten items as long as each is thought to take a hundred.
    rate = pb.Rate(dimension="tokens", per_minute=600_000, burst=1_000, estimate=ESTIMATE)
    await world.limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key="provider:p", rates=[rate])))
    run_id = await world.run(200, payload=lambda i: {"limits": ["provider:p"]}, concurrency=200)
    worker = world.worker()
    told = 0
    while told < ENOUGH:
        leases = await worker.leases(100)
        assert 0 < len(leases) <= 10
        outcomes = [completed(lease) for lease in leases]
        for outcome in outcomes:
            outcome.used["tokens"] = 1
        assert await worker.report(run_id, outcomes) == []
        told += len(leases)
    assert len(await worker.leases(100)) == 100, "a hundred of one token each"
