"""What every backend holds. A module that has a fixture `bed` takes these in by `from … import *`."""

from __future__ import annotations

from penstock.v1 import scheduler_pb2 as pb
from tests.integration.backends.bed import MOST, SLOTS, Bed, until

SLOW = {"sleep_seconds": 600}


def done(run: pb.Run) -> bool:
    return run.state == pb.RUN_STATE_COMPLETED


async def test_work_starts_workers_within_the_limit_and_they_end_when_it_is_done(bed: Bed) -> None:
    world = bed.world
    assert await bed.living() == 0, "nothing is kept warm"
    run_id = await world.run(60, parameters={"sleep_seconds": 0.05}, concurrency=60)
    runs, most = world.runs, 0

    async def over() -> bool:
        nonlocal most
        most = max(most, await bed.living())
        assert most <= MOST
        return done(await runs.GetRun(pb.GetRunRequest(run_id=run_id), timeout=10))

    await until("the run ends", over, seconds=60)
    assert most == MOST
    await until("idle workers end", lambda: _none(bed))


async def _none(bed: Bed) -> bool:
    return await bed.living() == 0


async def test_as_few_are_started_as_can_do_the_work(bed: Bed) -> None:
    run_id = await bed.world.run(2 * SLOTS, parameters=SLOW, concurrency=2 * SLOTS)
    await bed.world.until(run_id, lambda run: run.counts.running == 2 * SLOTS, seconds=40)
    assert await bed.living() == 2


async def test_leases_of_a_killed_worker_return_at_once_and_another_takes_its_place(bed: Bed) -> None:
    world = bed.world
    run_id = await world.run(SLOTS, parameters=SLOW, concurrency=SLOTS, max_tries=5)
    await world.until(run_id, lambda run: run.counts.running == SLOTS, seconds=40)
    (worker,) = await bed.until_workers(1)
    await bed.kill(worker)

    async def again() -> bool:
        events = await world.events(run_id, "lease.lost")
        return len(events) >= SLOTS and all(worker.session.encode() in event.data for event in events)

    await until("its leases return", again, seconds=30)
    (other,) = await bed.until_workers(1)
    assert other.session != worker.session
    assert (other.slot, other.generation) != (worker.slot, worker.generation)


async def test_a_worker_that_is_told_to_drain_finishes_what_it_has_and_takes_nothing_new(bed: Bed) -> None:
    world = bed.world
    run_id = await world.run(40, parameters={"sleep_seconds": 0.5}, concurrency=SLOTS)
    await world.until(run_id, lambda run: run.counts.running > 0, seconds=40)
    (worker,) = await bed.until_workers(1)
    from scheduler.draining import Draining

    engine = bed.backend._engine
    told = await Draining(engine, bed.backend._database).tell({worker.session: worker.worker_class})
    assert told == [worker.session]

    async def replaced() -> bool:
        return all(one.session != worker.session for one in await bed.workers())

    await until("it ends", replaced)
    await world.until(run_id, lambda run: run.counts.completed > 2 * SLOTS, seconds=40)
    assert not await world.events(run_id, "lease.lost"), "nothing was cut off"
    items = await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id), timeout=10)
    assert {item.tries for item in items.items} <= {0, 1}


async def test_a_scheduler_that_comes_back_adopts_what_lives(bed: Bed) -> None:
    world = bed.world
    run_id = await world.run(2 * SLOTS, parameters=SLOW, concurrency=2 * SLOTS)
    await world.until(run_id, lambda run: run.counts.running == 2 * SLOTS, seconds=40)
    before = {worker.session for worker in await bed.until_workers(2)}
    await world.restart_scheduler()
    after = {worker.session for worker in await bed.until_workers(2)}
    assert after == before
    assert not await world.events(run_id, "lease.lost")
