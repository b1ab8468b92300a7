"""Budgets over the real protocol: at the cap the run waits, and whoever waits for work is woken when there is money."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from penstock.v1 import rules_pb2 as rules
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import HandWorker, World, completed, failed, in_vain

PAID = {"paid": True}


async def start(world: World, count: int, budget: int | None, **settings: Any) -> str:
    plan_id = await world.plan(count, parameters=PAID, **settings)
    run = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, budget_micros=budget), timeout=10)
    return run.run_id


async def price(world: World, micros: int) -> None:
    await world.limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=micros, actor="test"), timeout=10)


def cost(lease: pb.Lease, micros: int) -> pb.Outcome:
    outcome = completed(lease)
    outcome.cost_micros = micros
    return outcome


async def top_up(
    worker: HandWorker, run_id: str, lease: pb.Lease, micros: int, request_id: str = ""
) -> pb.TopUpResponse:
    where = pb.LeaseId(run_id=run_id, stage=0, seq=lease.seq, attempt=lease.attempt)
    request = pb.TopUpRequest(session=worker.session, lease=where, micros=micros, request_id=request_id)
    return await worker.stub.TopUp(request, timeout=10)


async def test_at_the_cap_the_run_waits_and_a_higher_cap_wakes_who_waits_for_work(world: World) -> None:
    await price(world, 100)
    run_id = await start(world, 5, 250)
    worker = world.worker()
    response = await worker.acquire(5)
    (batch,) = response.batches
    assert batch.budgeted
    assert [(lease.seq, lease.reserved_micros) for lease in batch.leases] == [(0, 100), (1, 100)]
    assert await worker.report(run_id, [cost(lease, 100) for lease in batch.leases]) == []
    run = await world.until(run_id, lambda run: run.state == pb.RUN_STATE_WAITING)
    assert run.waiting.startswith("budget: item 0/2 needs $0.0001")
    waiting = asyncio.create_task(worker.leases(5, wait=20))
    await asyncio.sleep(0.1)
    await world.runs.UpdateRun(pb.UpdateRunRequest(run_id=run_id, budget_micros=1_000, actor="test"), timeout=10)
    async with asyncio.timeout(18):
        leases = await waiting
    assert [lease.seq for lease in leases] == [2, 3, 4]
    assert await worker.report(run_id, [cost(lease, 90) for lease in leases]) == []
    run = await world.get(run_id)
    assert (run.state, run.money.spent_micros, run.money.reserved_micros) == (pb.RUN_STATE_COMPLETED, 470, 0)


async def test_money_that_comes_back_lets_others_start_by_itself(world: World) -> None:
    await price(world, 100)
    run_id = await start(world, 3, 200)
    worker, other = world.worker(), world.worker("other")
    leases = await worker.leases(2)
    waiting = asyncio.create_task(other.leases(1, wait=20))
    await world.until(run_id, lambda run: run.waiting.startswith("budget"))
    assert await worker.report(run_id, [cost(lease, 10) for lease in leases]) == []
    async with asyncio.timeout(18):
        (last,) = await waiting
    assert last.seq == 2


async def test_a_price_lets_unpriced_work_start(world: World) -> None:
    run_id = await start(world, 2, 1_000)
    worker = world.worker()
    run = await in_vain(world, worker, run_id, lambda run: run.state == pb.RUN_STATE_WAITING)
    assert "nobody knows what an item of noop costs" in run.waiting
    await price(world, 7)
    assert [lease.reserved_micros for lease in await worker.leases(2)] == [7, 7]


async def test_a_top_up_is_granted_within_the_caps_and_counted_once(world: World) -> None:
    await price(world, 100)
    limits = rules.StageRules(item_budget_micros=400)
    run_id = await start(world, 2, 500, rules=limits)
    worker, other = world.worker(), world.worker("other")
    first, second = await worker.leases(2)
    more = await top_up(worker, run_id, first, 200, "once")
    assert (more.granted, more.reserved_micros) == (True, 300)
    again = await top_up(worker, run_id, first, 200, "once")
    assert (again.granted, again.reserved_micros) == (True, 300)
    assert (await world.get(run_id)).money.reserved_micros == 400
    assert (await top_up(worker, run_id, first, 101)).reason == "run_budget"
    await world.runs.UpdateRun(pb.UpdateRunRequest(run_id=run_id, budget_micros=-1, actor="test"), timeout=10)
    assert (await top_up(worker, run_id, first, 101)).reason == "item_budget"
    assert (await top_up(other, run_id, first, 1)).reason == "foreign"
    assert await worker.report(run_id, [cost(first, 300), cost(second, 20)]) == []
    assert (await top_up(worker, run_id, first, 1)).reason == "expired"
    run = await world.get(run_id)
    assert (run.money.spent_micros, run.money.reserved_micros, run.money.overrun_micros) == (320, 0, 0)


async def test_a_failed_item_is_leased_again_to_be_healed(world: World) -> None:
    heal = rules.StageRules(heal=rules.HealRules(attempts=1))
    run_id = await world.run(1, rules=heal, max_tries=1)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    assert await worker.report(run_id, [failed(lease, "no such table")]) == []
    (batch,) = (await worker.acquire(1)).batches
    assert (batch.mode, batch.processor, batch.leases[0].heals) == (pb.MODE_HEAL, "noop", 1)
    assert orjson.loads(batch.leases[0].context)["error"] == "no such table"
    assert await worker.report(run_id, [completed(batch.leases[0])]) == []
    run = await world.get(run_id)
    assert (run.state, run.stages[0].healed) == (pb.RUN_STATE_COMPLETED, 1)


async def test_a_run_that_waits_for_money_goes_on_when_its_items_need_less(world: World) -> None:
    await world.limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=100))
    plan_id = await world.plan(5, parameters={"paid": True})
    run = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, budget_micros=150), timeout=10)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    done = completed(lease)
    done.cost_micros = 100
    await worker.report(run.run_id, [done])
    await in_vain(world, worker, run.run_id, lambda run: run.state == pb.RUN_STATE_WAITING)
    await world.limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=40))
    assert len(await worker.leases(1, wait=15)) == 1


async def test_a_price_that_is_still_too_high_is_what_the_run_says_it_waits_for(world: World) -> None:
    plan_id = await world.plan(5, parameters={"paid": True})
    run = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, budget_micros=50), timeout=10)
    worker = world.worker()
    waiting = await in_vain(world, worker, run.run_id, lambda run: run.state == pb.RUN_STATE_WAITING)
    assert "nobody knows what an item of noop costs" in waiting.waiting
    await world.limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=70))
    waiting = await in_vain(world, worker, run.run_id, lambda run: "needs" in run.waiting)
    assert waiting.state == pb.RUN_STATE_WAITING


async def test_a_second_witness_that_costs_money_needs_a_price_under_a_budget(world: World) -> None:
    confirm = rules.ConfirmRules(processor="noop", parameters=b'{"paid":true}')
    plan_id = await world.plan(2, rules=rules.StageRules(confirm=confirm))
    run = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, budget_micros=1_000), timeout=10)
    worker = world.worker()
    leases = await worker.leases(2)
    assert len(leases) == 2, "the work itself is free"
    await worker.report(run.run_id, [completed(lease, 1) for lease in leases])
    waiting = await in_vain(world, worker, run.run_id, lambda run: run.state == pb.RUN_STATE_WAITING)
    assert "nobody knows what an item of noop costs" in waiting.waiting
    await world.limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=400))
    leases = await worker.leases(2)
    assert [lease.reserved_micros for lease in leases] == [400, 400]
    assert len(await world.events(run.run_id, "budget.held")) == 1, "it does not look again by itself"
