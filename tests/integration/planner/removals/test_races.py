"""Who starts, resumes, copies or names a plan while it is removed, at each step of that."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, NotFound
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from planner.removals.plan_uses import PlanUses
from planner.removals.rows import RemovalRows
from planner.store import PlanRow, Store
from scheduler.plans import Plans as SchedulersPlans
from tests.integration.planner.planned import Plans
from tests.integration.planner.removals.asking import (
    BOTH,
    Files,
    around,
    remove,
    resume,
    runs_of,
    stages,
    start,
    stopped,
    there,
)


@dataclass
class Held:
    """A start that has asked the planner, and makes its run when it is let."""

    starting: asyncio.Task[pb.Run]
    go_on: asyncio.Event

    @classmethod
    async def start(cls, plans: Plans, plan: planner_pb2.Plan, monkeypatch: pytest.MonkeyPatch) -> Held:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def held() -> None:
            asked.set()
            await go_on.wait()

        around(monkeypatch, SchedulersPlans, "keep", after=held)
        starting = asyncio.create_task(start(plans, plan))
        await asked.wait()
        return cls(starting, go_on)

    async def made(self) -> pb.Run:
        self.go_on.set()
        return await self.starting


@BOTH
async def test_a_start_that_asked_before_the_removal_makes_no_run(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    held = await Held.start(plans, plan, monkeypatch)
    await remove(plans, plan)
    with pytest.raises(Conflict) as gone:
        await held.made()
    assert gone.value.code == "plan_removed"
    assert not await runs_of(plans, plan)


@BOTH
async def test_a_start_that_asked_before_two_removals_makes_no_run(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    held = await Held.start(plans, plan, monkeypatch)
    await remove(plans, plan)
    again = await plans.plan()
    assert (again.plan_id, again.uid != plan.uid) == (plan.plan_id, True)
    await remove(plans, again)
    with pytest.raises(Conflict) as gone:
        await held.made()
    assert gone.value.code == "plan_removed"
    assert not await runs_of(plans, plan)


async def test_the_same_start_is_answered_as_before_once_its_plan_is_gone(plans: Plans) -> None:
    plan = await plans.plan()
    request = pb.StartRunRequest(plan_id=plan.plan_id, confirm=True, request_id="the-same")
    with calling():
        run = await plans.world.runs.StartRun(request)
        await plans.world.runs.StopRun(pb.StopRunRequest(run_id=run.run_id, actor="ann", force=True))
    await plans.world.until(run.run_id, lambda one: one.state == pb.RUN_STATE_STOPPED)
    await remove(plans, plan, force=True)
    with calling():
        assert (await plans.world.runs.StartRun(request)).run_id == run.run_id


@BOTH
async def test_a_run_that_is_made_between_mark_and_question_keeps_its_plan(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    held = await Held.start(plans, plan, monkeypatch)
    around(monkeypatch, PlanUses, "release", before=held.made)
    with pytest.raises(Conflict) as needed:
        await remove(plans, plan)
    assert needed.value.code == "plan_needed"
    assert len(await runs_of(plans, plan)) == 1
    assert (await start(plans, plan)).run_id, "the mark is taken back"


STEPS = pytest.mark.parametrize("step", ["before", "after"], ids=["marked", "let go of"])
"""How far a removal is when somebody comes."""


@BOTH
@STEPS
async def test_a_start_within_a_removal_is_refused_and_makes_no_run(
    plans: Plans, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    plan = await plans.plan()
    refused: list[str] = []

    async def starts() -> None:
        with pytest.raises(Conflict) as being:
            await start(plans, plan)
        refused.append(being.value.code)

    around(monkeypatch, PlanUses, "release", **{step: starts})
    await remove(plans, plan)
    assert refused == ["plan_removing"]
    assert not await runs_of(plans, plan)
    with pytest.raises(NotFound):
        await start(plans, plan)


@BOTH
async def test_a_run_that_is_resumed_once_its_plan_is_marked_keeps_it(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    run = await stopped(plans, plan)
    around(monkeypatch, PlanUses, "release", before=lambda: resume(plans, run))
    with pytest.raises(Conflict) as needed:
        await remove(plans, plan, force=True)
    assert needed.value.code == "plan_needed"
    assert await there(plans, plan)
    assert not (await plans.world.get(run.run_id)).plan_removed


@BOTH
async def test_a_run_is_not_resumed_once_its_plan_is_let_go_of(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = await plans.plan()
    run = await stopped(plans, plan)
    refused: list[str] = []

    async def resumes() -> None:
        with pytest.raises(Conflict) as gone:
            await resume(plans, run)
        refused.append(gone.value.code)

    around(monkeypatch, PlanUses, "release", after=resumes)
    await remove(plans, plan, force=True)
    assert refused == ["plan_removed"]
    assert not await there(plans, plan)


async def test_a_copy_that_is_made_within_a_removal_keeps_the_file(
    plans: Plans, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    copied: list[planner_pb2.Plan] = []

    async def copies() -> None:
        changes = planner_pb2.StageSpec(concurrency=3)
        with calling():
            copied.append(await plans.stub.CopyPlan(planner_pb2.CopyPlanRequest(plan_id=plan.plan_id, changes=changes)))

    around(monkeypatch, PlanUses, "release", after=copies)
    await remove(plans, plan)
    assert not await there(plans, plan)
    assert files.sweep() == 0
    assert len(await plans.keys(copied[0])) == plan.item_count


@BOTH
async def test_a_plan_that_is_named_between_look_and_mark_stays_for_who_did_not_see_it(
    plans: Plans, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan(name="first")
    mark = RemovalRows.mark

    def named(self: RemovalRows, row: PlanRow, **more: Any) -> bool:
        Store(files.database).rename_plan(plan.plan_id, "mine", change=None, now_ms=0)
        return mark(self, row, **more)

    monkeypatch.setattr(RemovalRows, "mark", named)
    with pytest.raises(Conflict) as changed:
        await remove(plans, plan, etag=plan.etag)
    assert changed.value.code == "etag_mismatch"
    assert "'mine'" in changed.value.message
    assert (await start(plans, plan)).run_id, "it was not marked"


@BOTH
async def test_whoever_is_faster_no_run_is_left_without_its_plan(plans: Plans) -> None:
    for turn in range(8):
        plan = await plans.plan(stages=stages(turn + 1))
        removed, *started = await asyncio.gather(
            remove(plans, plan), *(start(plans, plan) for _ in range(4)), return_exceptions=True
        )
        assert all(isinstance(one, pb.Run | Conflict | NotFound) for one in started), started
        runs = await runs_of(plans, plan)
        assert len(runs) == sum(isinstance(one, pb.Run) for one in started)
        if runs:
            assert isinstance(removed, Conflict)
            assert removed.code == "plan_needed"
        else:
            assert isinstance(removed, planner_pb2.DeletePlanResponse)
        assert await there(plans, plan) is bool(runs)


@BOTH
async def test_a_resume_and_a_removal_do_not_both_succeed(plans: Plans) -> None:
    for turn in range(4):
        plan = await plans.plan(stages=stages(turn + 1))
        run = await stopped(plans, plan)

        removed, resumed = await asyncio.gather(
            remove(plans, plan, force=True), resume(plans, run), return_exceptions=True
        )
        assert isinstance(removed, Conflict) != isinstance(resumed, Conflict), (removed, resumed)
        assert await there(plans, plan) is isinstance(removed, Conflict)
