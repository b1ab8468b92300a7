"""Clones: new runs of what an ended run has left, and of nothing else."""

from __future__ import annotations

import grpc

from penstock.v1 import planner_pb2, planner_pb2_grpc
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.test_actions import half_failed
from tests.integration.scheduler.test_operators import refused
from tests.integration.scheduler.test_runs import work_off
from tests.integration.scheduler.world import World, completed, failed


async def test_a_clone_runs_only_what_failed(world: World) -> None:
    worker = world.worker()
    run_id = await half_failed(world, worker)
    request = pb.CloneRunRequest(run_id=run_id, failed=True, actor="ann", request_id="c1")
    clone = await world.runs.CloneRun(request)
    assert (clone.cloned_from, clone.counts.total) == (run_id, 5)
    planner = planner_pb2_grpc.PlannerServiceStub(world.channel(world.planner.address))
    plan = await planner.GetPlan(planner_pb2.GetPlanRequest(plan_id=clone.plan_id))
    assert plan.actor == "ann", "whoever cloned the run made its plan"
    assert clone.run_id != run_id
    assert (await world.runs.CloneRun(request)).run_id == clone.run_id, "the same request, the same run"
    items = (await world.runs.ListItems(pb.ListItemsRequest(run_id=clone.run_id))).items
    assert [item.key for item in items] == ["k1", "k3", "k5", "k7", "k9"]
    assert await work_off(worker, clone.run_id, world) == [0, 1, 2, 3, 4]
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED_WITH_FAILURES


async def test_a_clone_of_a_stopped_run_takes_what_it_did_not_come_to(world: World) -> None:
    plan_id = await world.plan(8)
    start = pb.StartRunRequest(
        plan_id=plan_id, owner="team", priority=4, budget_micros=100, exclusive_keys=["project:x"], name="first"
    )
    run_id = (await world.runs.StartRun(start)).run_id
    worker = world.worker()
    leases = await worker.leases(3)
    outcomes = [completed(leases[0]), failed(leases[1], permanent=True), completed(leases[2])]
    assert await worker.report(run_id, outcomes) == []
    code, words = await refused(world.runs.CloneRun(pb.CloneRunRequest(run_id=run_id)))
    assert (code, "stop it first" in words) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    await world.runs.StopRun(pb.StopRunRequest(run_id=run_id))
    clone = await world.runs.CloneRun(pb.CloneRunRequest(run_id=run_id, unfinished=True))
    assert (clone.owner, clone.priority, clone.money.budget_micros, clone.name) == ("team", 4, 100, "first")
    assert list(clone.exclusive_keys) == ["project:x"]
    items = (await world.runs.ListItems(pb.ListItemsRequest(run_id=clone.run_id))).items
    assert [item.key for item in items] == ["k3", "k4", "k5", "k6", "k7"]
    code, words = await refused(world.runs.CloneRun(pb.CloneRunRequest(run_id=run_id)))
    assert (code, clone.run_id in words) == (grpc.StatusCode.FAILED_PRECONDITION, True), "the key is held"
    await world.runs.StopRun(pb.StopRunRequest(run_id=clone.run_id, force=True))
    both = await world.runs.CloneRun(pb.CloneRunRequest(run_id=run_id))
    assert both.counts.total == 6


async def test_a_run_with_nothing_left_has_no_clone(world: World) -> None:
    run_id = await world.run(2)
    await work_off(world.worker(), run_id, world)
    code, words = await refused(world.runs.CloneRun(pb.CloneRunRequest(run_id=run_id)))
    assert (code, "nothing left" in words) == (grpc.StatusCode.FAILED_PRECONDITION, True)
