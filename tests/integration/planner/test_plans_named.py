"""A plan is named by its id or by the name of a kept one, wherever a call names one; and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import planner_pb2 as p
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import sources_pb2 as sp
from tests.integration.planner.planned import Plans
from tests.integration.scheduler.world import World

RAZER = sp.Selection(filter="brand = Razer")


async def test_every_call_about_a_plan_takes_its_name(plans: Plans) -> None:
    named, other = await plans.plan(RAZER, name="two words"), await plans.plan(name="all of it")
    stub = plans.stub
    with calling():
        assert (await stub.GetPlan(p.GetPlanRequest(plan_id="two words"))).plan_id == named.plan_id
        rows = await stub.ReadPlanRows(p.ReadPlanRowsRequest(plan_id="two words", query=sp.RowQuery()))
        items = await stub.ReadPlanItems(p.ReadPlanItemsRequest(plan_id="two words", after_seq=-1))
        assert rows.total == len(items.items) == 5
        assert not (await stub.ListPlanLanes(p.ListPlanLanesRequest(plan_id="two words"))).next_page_token
        compared = await stub.ComparePlans(p.ComparePlansRequest(plan_id="two words", other_plan_id="all of it"))
        assert (compared.added_count, compared.removed_count) == (6, 0)
        assert (await stub.KeepPlan(p.KeepPlanRequest(plan_id="two words"))).plan_id == named.plan_id
        sample = await stub.SamplePlan(p.SamplePlanRequest(plan_id="two words", size=2))
        assert sample.item_count == 2
        copy = await stub.CopyPlan(p.CopyPlanRequest(plan_id="two words", changes=p.StageSpec(concurrency=3)))
        assert (copy.item_count, copy.stages[0].concurrency) == (5, 3)
        file = [part.chunk async for part in stub.ExportPlan(p.ExportPlanRequest(plan_id="two words"))]
        assert file == [part.chunk async for part in stub.ExportPlan(p.ExportPlanRequest(plan_id=named.plan_id))]
        assert not (await stub.ListEstimates(p.ListEstimatesRequest(plan_id="two words"))).estimates
        since = await plans.plan(sp.Selection(changed_since_plan="two words"))
        same = await plans.plan(sp.Selection(changed_since_plan=named.plan_id))
        assert (since.plan_id, since.selection.changed_since_plan) == (same.plan_id, named.plan_id)
        renamed = await stub.UpdatePlan(p.UpdatePlanRequest(plan_id="two words", name="three words here"))
        assert renamed.plan_id == named.plan_id
        removed = await stub.DeletePlan(p.DeletePlanRequest(plan_id="three words here", force=True))
        assert removed.plan.plan_id == named.plan_id
    assert other.plan_id != named.plan_id


async def test_a_run_is_started_by_the_name_of_its_plan_and_knows_its_id(plans: Plans, world: World) -> None:
    named = await plans.plan(RAZER, name="by name")
    with calling():
        run = await world.runs.StartRun(pb.StartRunRequest(plan_id="by name", actor="ann"))
    assert run.plan_id == named.plan_id
    leases = await world.worker().leases(5)
    assert [lease.key for lease in leases] == await plans.keys(named)


async def test_a_name_is_that_of_one_kept_plan(plans: Plans) -> None:
    first = await plans.plan(RAZER, name="twin")
    second = await plans.plan(name="twin")
    await plans.plan(sp.Selection(filter="brand = Acer"), name="only a draft", validate_only=True)
    get: Callable[[str], Any] = lambda name: plans.stub.GetPlan(p.GetPlanRequest(plan_id=name))  # noqa: E731
    with pytest.raises(InvalidInput, match="several plans are called 'twin'") as caught, calling():
        await get("twin")
    assert caught.value.code == "several_plans"
    assert {first.plan_id, second.plan_id} <= set(caught.value.message.replace(",", "").split())
    for unknown in ("only a draft", "TWIN", "twi", "plan-none", "plan-" + "0" * 32):
        with pytest.raises(NotFound) as missing, calling():
            await get(unknown)
        assert missing.value.code == "plan_not_found", unknown


async def test_no_name_is_none_however_many_plans_have_none(plans: Plans) -> None:
    await plans.plan(RAZER)
    await plans.plan()
    for call in (
        plans.stub.GetPlan(p.GetPlanRequest()),
        plans.stub.DeletePlan(p.DeletePlanRequest(force=True)),
        plans.stub.UpdatePlan(p.UpdatePlanRequest(name="x")),
    ):
        with pytest.raises(InvalidInput, match="plan_id is missing") as caught, calling():
            await call
        assert caught.value.code == "plan_id_missing"


async def test_an_id_goes_before_a_name(plans: Plans) -> None:
    first = await plans.plan(RAZER, name="first")
    await plans.plan(name=first.plan_id)
    with calling():
        found = await plans.stub.GetPlan(p.GetPlanRequest(plan_id=first.plan_id))
    assert found.name == "first"
