"""What operators change while runs go on: settings, caps, keys, retries; and runs that are taken up again."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.test_runs import work_off
from tests.integration.scheduler.world import World, completed, failed


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """How a call is refused, and in which words."""
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await call
    return told.value.code(), told.value.details() or ""


async def test_a_run_starts_with_owner_priority_budget_and_keys_and_says_so(world: World) -> None:
    plan_id = await world.plan(3)
    run = await world.runs.StartRun(
        pb.StartRunRequest(
            plan_id=plan_id,
            actor="ann",
            owner="team",
            priority=7,
            budget_micros=5_000_000,
            exclusive_keys=["project:x"],
        )
    )
    assert (run.owner, run.priority, run.money.budget_micros) == ("team", 7, 5_000_000)
    assert list(run.exclusive_keys) == ["project:x"]
    (created,) = await world.events(run.run_id, "run.created")
    assert created.actor == "ann"
    code, words = await refused(
        world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, exclusive_keys=["project:y", "project:x"]))
    )
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert run.run_id in words
    await world.runs.StopRun(pb.StopRunRequest(run_id=run.run_id, force=True))
    again = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, exclusive_keys=["project:x"], actor="bob"))
    assert again.owner == "bob"
    code, words = await refused(world.runs.ResumeRun(pb.RunCommand(run_id=run.run_id)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert again.run_id in words


async def test_absurd_settings_are_all_told_at_once_and_nothing_is_started(world: World) -> None:
    plan_id = await world.plan(1)
    code, words = await refused(
        world.runs.StartRun(
            pb.StartRunRequest(plan_id=plan_id, priority=5_000, budget_micros=-3, exclusive_keys=[" spaces "])
        )
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    for part in ("priority is 5,000", "budget_micros is -3", "' spaces '"):
        assert part in words
    assert not (await world.runs.ListRuns(pb.ListRunsRequest())).runs


async def test_a_live_run_is_updated_and_its_event_tells_old_and_new(world: World) -> None:
    run_id = await world.run(20, concurrency=2)
    worker = world.worker()
    assert len(await worker.leases(10)) == 2
    update = pb.UpdateRunRequest(
        run_id=run_id,
        actor="ann",
        reason="hurry",
        request_id="u1",
        priority=3,
        budget_micros=9,
        stages=[pb.StageUpdate(stage=0, concurrency=5, max_tries=2, item_budget_micros=4)],
    )
    answer = await world.runs.UpdateRun(update)
    assert (answer.changed, answer.run.priority, answer.run.money.budget_micros) == (True, 3, 9)
    assert (answer.run.stages[0].concurrency, answer.run.stages[0].max_tries) == (5, 2)
    told = await world.events(run_id, "run.updated", "stage.updated")
    assert [(event.actor, event.reason) for event in told] == [("ann", "hurry")] * 2
    assert b'"priority":[0,3]' in told[0].data
    assert b'"concurrency":[2,5]' in told[1].data
    assert len(await worker.leases(10)) == 3, "the new bound holds at once"
    assert (await world.runs.UpdateRun(update)).changed, "the same request, the same answer"
    update.request_id = "u2"
    assert not (await world.runs.UpdateRun(update)).changed
    cleared = await world.runs.UpdateRun(pb.UpdateRunRequest(run_id=run_id, budget_micros=-1))
    assert not cleared.run.money.HasField("budget_micros")


async def test_an_absurd_update_changes_nothing_and_tells_everything(world: World) -> None:
    run_id = await world.run(1)
    stages = [
        pb.StageUpdate(stage=0, concurrency=0, max_tries=1_000),
        pb.StageUpdate(stage=0, max_run_seconds=-1, budget_micros=-2),
    ]
    code, words = await refused(
        world.runs.UpdateRun(pb.UpdateRunRequest(run_id=run_id, priority=-1_001, stages=stages))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    for part in ("priority", "concurrency", "max_tries", "max_run_seconds", "budget_micros", "named twice"):
        assert part in words
    code, words = await refused(
        world.runs.UpdateRun(pb.UpdateRunRequest(run_id=run_id, stages=[pb.StageUpdate(stage=4, concurrency=1)]))
    )
    assert code is grpc.StatusCode.NOT_FOUND
    await work_off(world.worker(), run_id, world)
    code, words = await refused(world.runs.UpdateRun(pb.UpdateRunRequest(run_id=run_id, priority=1)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "completed" in words


async def test_a_completed_run_has_nothing_to_resume_and_says_what_it_takes(world: World) -> None:
    run_id = await world.run(2)
    await work_off(world.worker(), run_id, world)
    code, words = await refused(world.runs.ResumeRun(pb.RunCommand(run_id=run_id)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "retry or re-run" in words


async def test_what_waits_in_a_stopped_run_is_stopped_and_waits_again_when_it_is_resumed(world: World) -> None:
    run_id = await world.run(6)
    worker = world.worker()
    leases = await worker.leases(2)
    assert await worker.report(run_id, [completed(leases[0]), failed(leases[1])]) == []
    stopped = (await world.runs.StopRun(pb.StopRunRequest(run_id=run_id))).run
    assert (stopped.counts.completed, stopped.counts.stopped, stopped.counts.retry) == (1, 5, 0)
    listed = await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, states=[pb.ITEM_STATE_STOPPED]))
    assert [item.seq for item in listed.items] == [1, 2, 3, 4, 5]
    resumed = (await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))).run
    assert (resumed.counts.retry + resumed.counts.queued, resumed.counts.stopped) == (5, 0)
    assert sorted(await work_off(worker, run_id, world)) == [1, 2, 3, 4, 5]
    assert (await world.get(run_id)).counts.completed == 6


async def test_retries_stop_everywhere_and_go_on_when_they_are_allowed(world: World) -> None:
    run_id = await world.run(3)
    worker = world.worker()
    first = await worker.leases(3)
    off = await world.runs.SetRetries(pb.SetRetriesRequest(allowed=False, actor="ann", reason="incident"))
    assert (off.allowed, off.changed) == (False, True)
    assert not (await world.runs.SetRetries(pb.SetRetriesRequest(allowed=False))).changed
    assert await worker.report(run_id, [failed(lease) for lease in first]) == []
    run = await world.get(run_id)
    assert run.counts.retry == 3
    items = (await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, filter="due_time is null"))).items
    assert [item.seq for item in items] == [0, 1, 2]
    would = await world.runs.SetRetries(pb.SetRetriesRequest(validate_only=True, allowed=True))
    assert (would.allowed, would.changed) == (False, True)
    assert not (await world.runs.SetRetries(pb.SetRetriesRequest(validate_only=True, allowed=False))).changed
    now = await world.runs.GetRetries(pb.GetRetriesRequest())
    assert (now.allowed, now.actor, now.reason) == (False, "ann", "incident")
    assert (await world.runs.SetRetries(pb.SetRetriesRequest(allowed=True))).allowed
    again = await worker.leases(3)
    while len(again) < 3:
        again += await worker.leases(3)
    assert await worker.report(run_id, [completed(lease) for lease in again]) == []
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED


async def test_a_request_is_answered_the_same_however_the_run_has_moved_on(world: World) -> None:
    run_id = await world.run(2)
    pause = pb.RunCommand(run_id=run_id, request_id="p", actor="ann")
    assert (await world.runs.PauseRun(pause)).changed
    assert (await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))).changed
    repeated = await world.runs.PauseRun(pause)
    assert (repeated.changed, repeated.run.state) == (True, pb.RUN_STATE_RUNNING), "it does not pause again"
    code, _ = await refused(world.runs.PauseRun(pb.RunCommand(run_id=run_id, request_id="p", actor="bob")))
    assert code is grpc.StatusCode.ALREADY_EXISTS
