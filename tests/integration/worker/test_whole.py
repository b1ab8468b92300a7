"""A worker with a real scheduler: what processors tell of money, limits, waits and modes has its effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from penstock.v1 import rules_pb2
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import World
from tests.integration.worker.conftest import MakeAgent
from tests.integration.worker.test_agent import ended, item, until
from tests.integration.worker.trial import TrialProcessor

Payload = Callable[[int], dict[str, object]]


async def start(world: World, count: int, payload: Payload, *, budget: int | None = None, **settings: Any) -> str:
    plan_id = await world.plan(count, payload=payload, **settings)
    run = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, budget_micros=budget), timeout=10)
    return run.run_id


async def set_price(world: World, processor: str, micros: int) -> None:
    await world.limits.SetPrice(pb.SetPriceRequest(processor=processor, micros=micros), timeout=10)


async def test_costs_are_counted_and_bound(world: World, make_agent: MakeAgent) -> None:
    await set_price(world, "noop", 10)
    make_agent()
    run_id = await start(
        world, 30, lambda i: {"cost_micros": 7, "result": i}, budget=1_000, parameters={"paid": True}, concurrency=10
    )
    run = await world.until(run_id, ended)
    assert run.counts.completed == 30
    assert (run.money.spent_micros, run.money.reserved_micros, run.money.unknown_micros) == (210, 0, 0)
    assert (await item(world, run_id, 3)).cost_micros == 7


async def test_a_processor_asks_for_more_and_gets_what_the_caps_leave(world: World, make_agent: MakeAgent) -> None:
    await set_price(world, "spending", 9)
    make_agent()
    run_id = await start(world, 1, lambda i: {}, budget=500, processor="spending", parameters={"mode": "top_up"})
    await world.until(run_id, ended)
    assert (await item(world, run_id)).result == b"109"
    run_id = await start(
        world, 1, lambda i: {}, budget=50, processor="spending", parameters={"mode": "top_up"}, max_tries=1
    )
    await world.until(run_id, ended)
    refused = await item(world, run_id)
    assert (refused.state, refused.error_kind) == (pb.ITEM_STATE_FAILED, "budget")
    assert "run_budget" in refused.error


async def test_a_paid_call_that_crashed_is_unknown_in_money_and_in_kind(world: World, make_agent: MakeAgent) -> None:
    await set_price(world, "spending", 90)
    make_agent()
    run_id = await start(world, 1, lambda i: {}, budget=500, processor="spending", parameters={"mode": "crash"})
    run = await world.until(run_id, ended)
    crashed = await item(world, run_id)
    assert (crashed.state, crashed.error_kind, crashed.attempt) == (pb.ITEM_STATE_FAILED, "unknown", 1)
    assert (run.money.spent_micros, run.money.unknown_micros) == (90, 90), "five were told, of ninety reserved"


async def test_what_a_revoked_call_cost_is_told_all_the_same(world: World, make_agent: MakeAgent) -> None:
    await set_price(world, "spending", 90)
    agent = make_agent()
    run_id = await start(world, 1, lambda i: {}, budget=500, processor="spending", parameters={"mode": "wait"})
    await until("it began", lambda: TrialProcessor.began == [0])
    await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, force=True), timeout=10)
    run = await world.get(run_id)
    assert (run.money.spent_micros, run.money.unknown_micros) == (90, 90)
    run = await world.until(run_id, lambda run: not run.money.unknown_micros)
    assert (run.state, run.money.spent_micros) == (pb.RUN_STATE_STOPPED, 40)
    await until("it is forgotten", lambda: not agent._outbox and not agent._outbox.of_held)


async def test_a_deferred_item_comes_back_with_what_it_saved(world: World, make_agent: MakeAgent) -> None:
    make_agent()
    run_id = await start(world, 2, lambda i: {"fail": "deferred", "wait_seconds": 0.05, "fail_attempts": 2})
    run = await world.until(run_id, ended)
    assert run.counts.completed == 2
    done = await item(world, run_id)
    assert (done.attempt, done.tries) == (3, 0)


async def test_a_throttled_item_goes_back_without_a_try(world: World, make_agent: MakeAgent) -> None:
    make_agent()
    run_id = await start(
        world, 3, lambda i: {"limits": ["provider:t"], "fail": "throttled" if i == 0 else "", "wait_seconds": 0.05}
    )
    run = await world.until(run_id, ended)
    assert run.counts.completed == 3
    first = await item(world, run_id)
    assert (first.attempt, first.tries, first.lane) == (2, 0, "provider:t")


async def test_an_item_is_healed_and_confirmed(world: World, make_agent: MakeAgent) -> None:
    rules = rules_pb2.StageRules(
        retry=[rules_pb2.RetryRule(max_tries=1)],
        heal=rules_pb2.HealRules(attempts=2),
        confirm=rules_pb2.ConfirmRules(processor="noop"),
    )
    make_agent()
    run_id = await start(world, 2, lambda i: {"fail": "item"} if i else {"result": {"done": True}}, rules=rules)
    run = await world.until(run_id, ended)
    assert run.counts.completed == 2
    worked, healed = await item(world, run_id), await item(world, run_id, 1)
    assert (orjson.loads(worked.result), worked.attempt, worked.healed) == ({"done": True}, 2, False)
    assert (healed.healed, healed.heals, healed.attempt) == (True, 1, 3)


async def test_a_second_witness_that_disagrees_fails_the_item(world: World, make_agent: MakeAgent) -> None:
    rules = rules_pb2.StageRules(confirm=rules_pb2.ConfirmRules(processor="noop"))
    make_agent()
    run_id = await start(world, 1, lambda i: {"confirms": False}, rules=rules, max_tries=1)
    run = await world.until(run_id, ended)
    assert run.counts.failed == 1
    assert (await item(world, run_id)).error_kind == "unconfirmed"


@pytest.mark.parametrize(("repeatable", "kind"), [(True, ""), (False, "unknown")])
async def test_work_that_may_not_be_repeated_is_not(
    world: World, make_agent: MakeAgent, repeatable: bool, kind: str
) -> None:
    run_id = await start(world, 1, lambda i: {}, parameters={"repeatable": repeatable})
    dying = world.worker()
    (lease,) = await dying.leases(1)
    await dying.renew(run_id, [lease])
    make_agent()
    run = await world.until(run_id, ended)
    assert (run.counts.completed, run.counts.failed) == ((1, 0) if repeatable else (0, 1))
    assert (await item(world, run_id)).error_kind == kind
    assert not TrialProcessor.began
