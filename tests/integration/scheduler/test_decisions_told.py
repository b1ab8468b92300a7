"""What operators decide that concerns no run is told like everything else: who, what, old → new, why."""

from __future__ import annotations

from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import World


async def told(world: World, key: str) -> list[tuple[str, str, str, str, str]]:
    answer = await world.limits.ListLimitEvents(pb.ListLimitEventsRequest(key=key))
    return [(e.type, e.old_state, e.new_state, e.actor, e.reason) for e in reversed(answer.events)]


async def test_a_price_that_is_set_changed_and_forgotten_is_told_each_time(world: World) -> None:
    for micros, reason in ((12_000, "their list"), (12_000, "again"), (9_000, "a discount"), (-1, "gone")):
        asked = pb.SetPriceRequest(processor="noop", micros=micros, actor="ada", reason=reason)
        await world.limits.SetPrice(asked)
    assert await told(world, "price noop") == [
        ("price.set", "none", "12,000", "ada", "their list"),
        ("price.set", "12,000", "9,000", "ada", "a discount"),
        ("price.set", "9,000", "none", "ada", "gone"),
    ]


async def test_the_switch_of_retries_is_told_when_it_moves(world: World) -> None:
    for allowed, reason in ((False, "an incident"), (False, "an incident"), (True, "over")):
        await world.runs.SetRetries(pb.SetRetriesRequest(allowed=allowed, actor="ada", reason=reason))
    assert await told(world, "retries") == [
        ("retries.stopped", "allowed", "stopped", "ada", "an incident"),
        ("retries.allowed", "stopped", "allowed", "ada", "over"),
    ]


async def test_why_a_run_was_started_is_told(world: World) -> None:
    plan_id = await world.plan(2)
    asked = pb.StartRunRequest(plan_id=plan_id, actor="ada", reason="the weekly one", request_id="once")
    run = await world.runs.StartRun(asked)
    created = (await world.events(run.run_id, "run.created"))[0]
    assert (created.actor, created.reason) == ("ada", "the weekly one")
