"""A sample of a plan: its share of every group, from a plan that stays as it is; and what is said of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, InvalidInput, NotFound
from penstock.v1 import planner_pb2
from penstock.v1 import sources_pb2 as sp
from planner.domain.sampling import sample_seqs
from tests.integration.planner.conftest import Planner, _parts
from tests.integration.planner.planned import Plans

PAID = planner_pb2.StageSpec(processor="noop", parameters=b'{"paid": true}')


async def sample(plans: Plans | Planner, plan: planner_pb2.Plan, size: int, **fields: str) -> planner_pb2.Plan:
    with calling():
        return await plans.stub.SamplePlan(planner_pb2.SamplePlanRequest(plan_id=plan.plan_id, size=size, **fields))


def told(plan: planner_pb2.Plan) -> dict[str, str]:
    return {one.code: one.message for one in plan.warnings}


async def test_a_sample_has_its_share_of_every_group_and_runs_in_the_order_of_the_plan(plans: Plans) -> None:
    plan = await plans.plan(validate_only=True, ordering=sp.Ordering(pinned=["Logitech"]), profile="thorough")
    chosen = await sample(plans, plan, 5, name="a few", actor="ann")
    assert (chosen.item_count, chosen.draft, chosen.name, chosen.actor) == (5, True, "a few", "ann")
    assert (chosen.source_name, chosen.source_version, chosen.profile) == ("mice", 1, "thorough")
    assert chosen.stages[0].concurrency == 16, "set as the plan is"
    whole, keys = await plans.keys(plan), await plans.keys(chosen)
    assert keys == [key for key in whole if key in keys], "in its order"
    assert set(Counter(key.partition("-")[0] for key in keys)) == {"razer", "acer", "logitech"}
    assert (await sample(plans, plan, 5)).plan_id == chosen.plan_id, "the same again"
    assert told(chosen) == {"sample": f"5 of the 11 items of {plan.plan_id}, over its groups and its order"}
    page = await plans.stub.ReadPlanRows(planner_pb2.ReadPlanRowsRequest(plan_id=chosen.plan_id))
    assert [row.key for row in page.rows] == keys
    assert page.rows[0].why == "all; group pinned 1, then sort keys"


async def test_what_a_sample_has_done_the_plan_made_again_leaves_out(plans: Plans) -> None:
    plan = await plans.plan(validate_only=True)
    first = await sample(plans, plan, 4)
    done = await plans.keys(first)
    await plans.run(first, wrong={done[0]})
    again = await plans.plan()
    assert [(one.reason, one.count, sorted(one.keys)) for one in again.left_out] == [
        ("done already", 3, sorted(done[1:])),
    ], "and what failed is in it"
    assert again.item_count == 8
    missing = await plans.plan(sp.Selection(missing="noop"))
    assert sorted(await plans.keys(missing)) == sorted(await plans.keys(again))


async def test_no_fewer_items_than_the_plan_has_is_all_of_it_and_is_said(plans: Plans) -> None:
    plan = await plans.plan(name="all mice")
    for size in (11, 500):
        chosen = await sample(plans, plan, size)
        assert await plans.keys(chosen) == await plans.keys(plan)
        assert chosen.plan_id != plan.plan_id
        assert "all mice has 11 items" in told(chosen)["sample_is_all"]


@pytest.mark.parametrize("size", [0, -1, 10_001])
async def test_a_size_out_of_range_is_refused(plans: Plans, size: int) -> None:
    plan = await plans.plan()
    with pytest.raises(InvalidInput, match="a sample has 1-10,000 items") as refused:
        await sample(plans, plan, size)
    assert refused.value.code == "bad_sample"
    with pytest.raises(NotFound):
        await sample(plans, planner_pb2.Plan(plan_id="plan-none"), 3)


async def test_a_sample_that_costs_money_asks_as_any_plan_does(plans: Plans) -> None:
    chosen = await sample(plans, await plans.plan(stages=[PAID], validate_only=True), 3)
    assert chosen.needs_confirm
    assert told(chosen)["paid"] == "noop costs money: confirm to start it"
    with pytest.raises(Conflict) as refused, calling():
        await plans.stub.KeepPlan(planner_pb2.KeepPlanRequest(plan_id=chosen.plan_id))
    assert refused.value.code == "confirm_required"
    assert not (await sample(plans, await plans.plan(), 3)).needs_confirm


async def test_a_selection_that_takes_what_is_done_says_that_the_sample_runs_twice(plans: Plans) -> None:
    chosen = await sample(plans, await plans.plan(sp.Selection(all=True, again=True)), 3)
    assert "takes what is done already" in told(chosen)["sample_runs_again"]


async def test_a_source_that_is_taken_whole_has_samples_that_run_twice_and_tasks_have_none(planner: Planner) -> None:
    source = await planner.items(b"".join(b'{"key": "%d", "group": "%d"}\n' % (n, n % 3) for n in range(30)))
    plan = await planner.plan(source.source_id, stages=[planner_pb2.StageSpec(processor="noop")])
    chosen = await sample(planner, plan, 3)
    groups = [item.group for item in (await planner.read(chosen.plan_id)).items]
    assert sorted(groups) == ["0", "1", "2"]
    assert "taken whole" in told(chosen)["sample_runs_again"]
    documents = await planner.plan((await planner.files([("a.txt", b"a"), ("b.txt", b"b")])).source_id)
    assert [stage.item_count for stage in (await sample(planner, documents, 1)).stages] == [1, 1]
    parts = _parts(planner_pb2.SOURCE_KIND_TASKS, [("tasks.md", b"## One\n- [ ] T001 do it\n- [ ] T002 and this\n")])
    tasks = await planner.send(parts)
    plan = await planner.plan(tasks.source_id, stages=[planner_pb2.StageSpec(processor="noop")])
    with pytest.raises(InvalidInput, match="tasks are done once") as refused:
        await sample(planner, plan, 1)
    assert refused.value.code == "bad_sample"


async def test_the_file_of_a_plan_and_its_groups_in_memory_give_the_same_choice(planner: Planner) -> None:
    names = [f"g{n * n % 7}" for n in range(25_000)]
    data = b"".join(b'{"key": "%d", "group": "%s"}\n' % (n, name.encode()) for n, name in enumerate(names))
    plan = await planner.items_plan(data)
    places = {name: names.index(name) for name in names}
    wanted = sample_seqs(plan.plan_id, np.array([places[name] for name in names]), 700)
    chosen = await sample(planner, plan, 700)
    assert [int(item.key) for item in (await planner.read(chosen.plan_id)).items] == wanted.tolist()
