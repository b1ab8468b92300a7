"""A planner or scheduler that is gone within a removal: it goes on, or is taken back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, InvalidInput, PenstockError, Unavailable
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from planner.removals.plan_uses import PlanUses
from planner.removals.rows import RemovalRows
from planner.results.copying import Results
from tests.integration.planner.planned import Plans
from tests.integration.planner.removals.asking import (
    BOTH,
    Killed,
    done,
    remove,
    remove_source,
    restarted,
    runs_of,
    start,
    stopped,
    there,
)


async def goes_on(plans: Plans, monkeypatch: pytest.MonkeyPatch, plan: planner_pb2.Plan) -> None:
    """The next planner removes it, unasked."""
    gone = done(monkeypatch, RemovalRows, "remove")
    await restarted(plans.world)
    await asyncio.wait_for(gone.wait(), 20)
    assert not await there(plans, plan)


@BOTH
@pytest.mark.parametrize(
    ("part", "step"),
    [(PlanUses, "release"), (Results, "catch_up"), (RemovalRows, "remove")],
    ids=["marked", "let go of", "copied"],
)
async def test_a_planner_that_dies_within_a_removal_goes_on_with_it(
    plans: Plans, monkeypatch: pytest.MonkeyPatch, part: type, step: str
) -> None:
    plan = await plans.plan()
    await plans.run(plan)
    with monkeypatch.context() as patch:

        def dies(self: object, *args: Any, **more: Any) -> Any:
            raise Killed

        patch.setattr(part, step, dies)
        with pytest.raises(PenstockError):
            await remove(plans, plan)
        # The next one has the mark: nobody starts it, everybody reads it.
        with pytest.raises(Conflict) as being:
            await start(plans, plan)
        assert being.value.code == "plan_removing"
        assert await plans.keys(plan)
    await goes_on(plans, monkeypatch, plan)
    assert [run.plan_removed for run in await runs_of(plans, plan)] == [True]
    with pytest.raises(InvalidInput) as nothing:
        await plans.plan()
    assert nothing.value.code == "selection_empty", "its results were copied before it went"
    assert (await remove_source(plans)).version_count == 1


@BOTH
async def test_a_removal_that_was_begun_ends_with_the_plan_kept_where_a_run_needs_it(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    await stopped(plans, plan)

    async def dies(self: object, *args: Any, **more: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PlanUses, "release", dies)
        with pytest.raises(PenstockError):
            await remove(plans, plan)
        with pytest.raises(Conflict) as being:
            await plans.plan()
        assert being.value.code == "plan_removing"
    with pytest.raises(Conflict) as still:
        await start(plans, plan)
    assert still.value.code == "plan_removing"
    kept = done(monkeypatch, RemovalRows, "keep")
    await restarted(plans.world)
    await asyncio.wait_for(kept.wait(), 20)
    assert (await start(plans, plan)).run_id
    assert len(await runs_of(plans, plan)) == 2


async def test_what_was_forced_before_the_planner_died_stays_so(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = await plans.plan()
    run = await stopped(plans, plan)

    def dies(self: object, *args: Any, **more: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RemovalRows, "remove", dies)
        with pytest.raises(PenstockError):
            await remove(plans, plan, force=True)
    with pytest.raises(Conflict) as gone, calling():
        await plans.world.runs.ResumeRun(pb.RunCommand(run_id=run.run_id, actor="ann"))
    assert gone.value.code == "plan_removed"
    await goes_on(plans, monkeypatch, plan)


async def test_what_was_to_be_forced_is_forced_by_who_goes_on(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that the scheduler still works at may let go by force at any time: taking the mark back would be wrong."""
    plan = await plans.plan()
    await stopped(plans, plan)

    async def dies(self: object, *args: Any, **more: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PlanUses, "release", dies)
        with pytest.raises(PenstockError):
            await remove(plans, plan, force=True)
    await goes_on(plans, monkeypatch, plan)


async def test_a_plan_that_a_run_needs_counts_as_made_anew(plans: Plans) -> None:
    plan = await plans.plan()
    await stopped(plans, plan)
    with pytest.raises(Conflict):
        await remove(plans, plan)
    with calling():
        kept = await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan.plan_id))
    assert (kept.uid != plan.uid, kept.etag) == (True, plan.etag)
    assert (await start(plans, plan)).plan_id == plan.plan_id


async def test_while_the_scheduler_is_away_a_plan_is_marked_and_goes_later(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, plan = plans.world, await plans.plan()
    release, asked = PlanUses.release, []

    async def noted(self: PlanUses, *args: Any, **more: Any) -> Any:
        asked.append(self)
        return await release(self, *args, **more)

    monkeypatch.setattr(PlanUses, "release", noted)
    await world.scheduler.crash()
    try:
        with pytest.raises(Unavailable) as away:
            await remove(plans, plan)
        assert away.value.code == "plan_removing"
        assert await there(plans, plan)
    finally:
        await world.start_scheduler()
    await asyncio.wait_for(asked[0]._channel.channel_ready(), 20)
    gone = done(monkeypatch, RemovalRows, "remove")
    sweeping = asyncio.ensure_future(world.planner.service.loops["sweep"]())
    await asyncio.wait_for(gone.wait(), 20)
    sweeping.cancel()
    await asyncio.wait([sweeping])
    assert not await there(plans, plan), "nobody asked once more"
