"""ExplainRun and ExplainItem over real parts: why it is not running, and what would change that."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from penstock.v1 import rules_pb2
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import World, completed, failed


async def item(world: World, run_id: str, seq: int, *, stage: int = 0) -> pb.Explanation:
    return await world.runs.ExplainItem(pb.ExplainItemRequest(run_id=run_id, stage=stage, seq=seq), timeout=10)


async def run(world: World, run_id: str) -> pb.Explanation:
    return await world.runs.ExplainRun(pb.ExplainRunRequest(run_id=run_id), timeout=10)


def codes(told: pb.Explanation) -> list[str]:
    return [reason.code for reason in told.reasons]


async def test_a_run_without_workers_says_so_and_one_with_them_may_start(world: World) -> None:
    run_id = await world.run(3)
    assert codes(await run(world, run_id)) == ["no_worker"]
    worker = world.worker()
    (lease,) = await worker.leases(1)
    assert codes(await run(world, run_id)) == []
    assert await worker.report(run_id, [completed(lease)]) == []


async def test_an_item_behind_others_counts_them(world: World) -> None:
    run_id = await world.run(100)
    worker = world.worker()
    await worker.leases(10)
    told = await item(world, run_id, 50)
    assert (told.state, told.ahead, codes(told)) == ("queued", 40, ["order"])
    first = await item(world, run_id, 10)
    assert (first.ahead, codes(first)) == (0, [])
    running = await item(world, run_id, 3)
    assert (running.state, codes(running)) == ("running", ["running"])
    assert worker.session.session in running.reasons[0].text


async def test_a_run_names_the_limits_that_hold_its_items_back(world: World) -> None:
    await world.limits.CloseLimit(pb.CloseLimitRequest(key="domain:shut", actor="ann", reason="429"))
    run_id = await world.run(6, payload=lambda i: {"limits": ["domain:shut"]})
    worker = world.worker()
    told = pb.Explanation()
    for _ in range(20):  # until what was asked for has been looked at and put aside
        assert not (await worker.acquire(4, wait=0.3)).batches
        told = await run(world, run_id)
        if told.reasons:
            break
    assert (codes(told), told.reasons[0].key) == (["limit_closed"], "domain:shut")
    assert told.reasons[0].text == "limit domain:shut is closed: 429; 6 of its items wait"
    assert (told.reasons[0].key, told.reasons[0].items) == ("domain:shut", 6)
    await world.limits.OpenLimit(pb.OpenLimitRequest(key="domain:shut", actor="ann"))
    assert len(await worker.leases(6)) == 6
    assert codes(await run(world, run_id)) == []


async def test_what_waits_at_a_limit_is_counted_as_far_as_it_was_read(
    tmp_path: Path, redis_url: str, database_url: str
) -> None:
    world = await World.start(tmp_path, redis_url, database_url, window_items=64)
    try:
        await world.limits.CloseLimit(pb.CloseLimitRequest(key="domain:*", actor="ann"))
        run_id = await world.run(1_000, payload=lambda i: {"limits": ["domain:shut"]})
        worker = world.worker()
        for _ in range(20):  # until what was asked for has been looked at and put aside
            await worker.acquire(4, wait=0.1)
        (reason,) = (await run(world, run_id)).reasons
        assert 0 < reason.items < 1_000
        assert reason.text.endswith(f"; at least {reason.items} of its items wait")
        summary = await world.runs.GetRunSummary(pb.GetRunSummaryRequest(run_id=run_id), timeout=10)
        assert summary.eta.reason.startswith(f"not known: at least {reason.items} items wait at limit domain:shut")
        few = await world.run(9, payload=lambda i: {"limits": ["domain:few"]})
        for _ in range(20):
            await worker.acquire(4, wait=0.1)
        (reason,) = (await run(world, few)).reasons
        assert reason.text.endswith(" is closed; 9 of its items wait")
    finally:
        await world.stop()


async def test_turns_of_other_runs_are_no_reason_while_a_worker_has_a_free_slot(world: World) -> None:
    await world.limits.CloseLimit(pb.CloseLimitRequest(key="domain:shut", actor="ann"))
    other = world.worker("other")
    await world.run(2)
    assert len(await other.leases(2)) == 2
    run_id = await world.run(6, payload=lambda i: {"limits": ["domain:shut"]})
    assert codes(await run(world, run_id)) == ["turn"], "nobody has asked for more yet"
    for _ in range(20):  # until what was asked for has been looked at and put aside
        await other.acquire(4, wait=0.3)
        if codes(told := await run(world, run_id)) != ["turn"]:
            break
    assert codes(told) == ["limit_closed"]
    assert codes(await item(world, run_id, 3)) == ["limit_closed", "order"]
    await world.run(4)
    assert len(await other.leases(4)) == 4
    assert codes(await run(world, run_id)) == ["limit_closed", "turn"]


async def test_an_item_behind_a_closed_key_says_until_when_and_who(world: World) -> None:
    run_id = await world.run(2, payload=lambda i: {"limits": [f"domain:{'ab'[i]}"]})
    until = Timestamp()
    until.GetCurrentTime()
    until.seconds += 3_600
    close = pb.CloseLimitRequest(key="domain:b", until_time=until, actor="ann", reason="they asked us to")
    await world.limits.CloseLimit(close, timeout=10)
    await world.worker().leases(1)
    told = await item(world, run_id, 1)
    assert codes(told) == ["limit_closed"]
    (reason,) = told.reasons
    assert (reason.key, reason.until_time.seconds) == ("domain:b", until.seconds)
    assert "they asked us to" in reason.text
    assert reason.since_time.ToMilliseconds() > 0


async def test_an_item_behind_a_full_pattern_says_how_full(world: World) -> None:
    limit = pb.Limit(key="domain:*", concurrency=1)
    await world.limits.SetLimit(pb.SetLimitRequest(limit=limit), timeout=10)
    run_id = await world.run(3, payload=lambda i: {"limits": ["domain:a"]})
    worker = world.worker()
    assert len(await worker.leases(3)) == 1
    told = await item(world, run_id, 2)
    assert codes(told) == ["limit_full", "order"]
    assert "1 of 1" in told.reasons[0].text
    assert "domain:*" in told.reasons[0].text


async def test_a_run_and_an_item_at_a_gate_name_it_once(world: World) -> None:
    run_id = await world.run(2, rules=rules_pb2.StageRules(gate=rules_pb2.GateRules(name="review")))
    for told in (await run(world, run_id), await item(world, run_id, 0)):
        assert codes(told) == ["gate"]
        assert told.reasons[0].key == "review"
        assert "approve" in told.reasons[0].change


async def test_a_run_at_its_budget_says_what_is_missing(world: World) -> None:
    await world.limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=100), timeout=10)
    plan_id = await world.plan(3, parameters={"paid": True})
    request = pb.StartRunRequest(plan_id=plan_id, budget_micros=150)
    run_id = (await world.runs.StartRun(request, timeout=10)).run_id
    worker = world.worker()
    (lease,) = await worker.leases(3)
    told = await run(world, run_id)
    assert codes(told) == ["budget"]
    assert "needs $0.0001, $0.00005 are left" in told.reasons[0].text
    outcome = completed(lease)
    outcome.cost_micros = 100
    assert await worker.report(run_id, [outcome]) == []
    await world.until(run_id, lambda run: run.state == pb.RUN_STATE_WAITING)
    assert codes(await run(world, run_id)) == ["budget"]
    assert codes(await item(world, run_id, 1)) == ["budget"]
    assert codes(await item(world, run_id, 2)) == ["budget", "order"]


async def test_a_full_stage_is_named(world: World) -> None:
    run_id = await world.run(5, concurrency=2)
    worker = world.worker()
    await worker.leases(2)
    assert codes(await item(world, run_id, 2)) == ["stage_full"]
    assert codes(await run(world, run_id)) == ["stage_full"]


async def test_a_retry_waits_for_its_back_off_until_a_time(world: World) -> None:
    retry = rules_pb2.RetryRule(first_seconds=600, max_seconds=600)
    run_id = await world.run(1, max_tries=5, rules=rules_pb2.StageRules(retry=[retry]))
    worker = world.worker()
    (lease,) = await worker.leases(1)
    await world.runs.PauseRun(pb.RunCommand(run_id=run_id, actor="ann", reason="lunch"))
    assert await worker.report(run_id, [failed(lease)]) == []
    told = await item(world, run_id, 0)
    assert told.state == "retry"
    assert codes(told) == ["run_paused", "back_off"]
    assert told.reasons[1].until_time.ToMilliseconds() > 0
    assert "ann" in told.reasons[0].text
    assert told.reasons[0].since_time.ToMilliseconds() > 0
    assert codes(await run(world, run_id)) == ["run_paused"]


async def test_what_holds_the_whole_run_comes_before_the_place_in_the_order(world: World) -> None:
    run_id = await world.run(100)
    worker = world.worker()
    await worker.leases(10)
    await world.runs.PauseRun(pb.RunCommand(run_id=run_id, actor="ann"))
    assert codes(await item(world, run_id, 50)) == ["run_paused", "order"]
    gated = await world.run(9, rules=rules_pb2.StageRules(gate=rules_pb2.GateRules(name="review")))
    assert codes(await item(world, gated, 5)) == ["gate", "order"]


async def test_stopped_retries_come_before_the_back_off_of_what_they_hold(world: World) -> None:
    run_id = await world.run(2, max_tries=5)
    worker = world.worker()
    leases = await worker.leases(2)
    await world.runs.SetRetries(pb.SetRetriesRequest(allowed=False, actor="ann", reason="nonsense"))
    assert await worker.report(run_id, [failed(lease) for lease in leases]) == []
    for told in (await item(world, run_id, 0), await run(world, run_id)):
        assert codes(told) == ["retries_stopped", "back_off"]
        assert told.reasons[0].text == "all retries were stopped by ann: nonsense"
        assert told.reasons[0].change == "allow retries again"


async def test_a_rate_is_named_only_where_it_holds_something_back(world: World) -> None:
    rate = pb.Rate(dimension="requests", per_minute=6, burst=1)
    limit = pb.Limit(key="provider:x", rates=[rate])
    await world.limits.SetLimit(pb.SetLimitRequest(limit=limit), timeout=10)
    run_id = await world.run(4, payload=lambda i: {"limits": ["provider:x"]})
    assert "limit_rate" not in codes(await item(world, run_id, 3))
    worker = world.worker()
    for _ in range(20):  # until what was asked for has been looked at and put aside
        await worker.acquire(4, wait=0.1)
        told = await item(world, run_id, 3)
        if "limit_rate" in codes(told):
            break
    assert (codes(told), told.reasons[0].key) == (["limit_rate", "order"], "provider:x")
    assert codes(await run(world, run_id)) == ["limit_rate"]


async def test_an_ended_item_says_how_it_ended(world: World) -> None:
    run_id = await world.run(2)
    worker = world.worker()
    leases = await worker.leases(2)
    assert await worker.report(run_id, [completed(leases[0]), failed(leases[1], "empty", permanent=True)]) == []
    done, broken = await item(world, run_id, 0), await item(world, run_id, 1)
    assert (done.state, codes(done)) == ("completed", ["completed", "run_ended"])
    assert broken.reasons[0].code == "failed"
    assert "empty" in broken.reasons[0].text
    assert codes(await run(world, run_id)) == ["run_ended"]


async def test_an_item_that_is_not_there_is_told_what_is(world: World) -> None:
    run_id = await world.run(3)
    for stage, seq, there in ((0, 3, "its items are 0 to 2"), (1, 0, "its only stage is 0")):
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await item(world, run_id, seq, stage=stage)
        assert told.value.code() is grpc.StatusCode.NOT_FOUND
        assert there in (told.value.details() or "")


async def test_a_run_whose_valve_closed_names_the_key_that_opens_it(world: World) -> None:
    rules = rules_pb2.StageRules(valve=rules_pb2.ValveRules(failures=3, closed_seconds=600))
    run_id = await world.run(6, rules=rules, max_tries=1)
    worker = world.worker()
    leases = await worker.leases(3)
    await worker.report(run_id, [failed(lease, "no such host") for lease in leases])
    told = await run(world, run_id)
    (closed,) = [reason for reason in told.reasons if reason.code == "limit_closed"]
    assert closed.text.startswith(f"the valve of its stage ({closed.key}) is closed: 3 equal failures")
    await world.limits.OpenLimit(pb.OpenLimitRequest(key=closed.key, actor="ann"))
    assert "limit_closed" not in codes(await run(world, run_id))
