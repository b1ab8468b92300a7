"""A plan of some items of another: in its order, with its settings, numbered anew; the same choice, the same plan."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import AlreadyExists, InvalidInput, NotFound
from penstock.v1 import planner_pb2, rules_pb2
from tests.integration.planner.conftest import Planner
from tests.integration.planner.test_lanes import NOOP, lanes_of, lines
from tests.integration.planner.test_sources_and_plans import lines as plain_lines

Request = planner_pb2.DerivePlanRequest


async def derive(
    planner: Planner,
    plan_id: str,
    *parts: Sequence[int],
    stage: int = 0,
    name: str = "",
    request_id: str = "",
    actor: str = "",
) -> planner_pb2.Plan:
    header = Request.Header(plan_id=plan_id, stage=stage, name=name, request_id=request_id, actor=actor)
    messages = [Request(header=header), *(Request(seqs=Request.Seqs(seqs=seqs)) for seqs in parts)]
    with calling():
        return await planner.stub.DerivePlan(iter(messages))


async def test_chosen_items_are_a_plan_of_their_own(planner: Planner) -> None:
    source = await planner.items(lines([["domain:a"] if i % 2 else [] for i in range(25_000)]))
    rules = rules_pb2.StageRules(budget_micros=5)
    stage = planner_pb2.StageSpec(processor="noop", concurrency=7, rules=rules)
    plan = await planner.plan(source.source_id, stages=[stage], name="all")
    chosen = [*range(3, 20_000, 3), 24_999]
    derived = await derive(planner, plan.plan_id, chosen[:1_000], [], chosen[1_000:], name="some")
    assert derived.plan_id != plan.plan_id
    assert (derived.source_id, derived.name, derived.draft) == (plan.source_id, "some", False)
    assert derived.item_count == len(chosen) == derived.stages[0].item_count
    assert (derived.stages[0].concurrency, derived.stages[0].rules) == (7, rules)
    seen = []
    after = -1
    while True:
        answer = await planner.read(derived.plan_id, after_seq=after, limit=4_000)
        seen += [(item.seq, item.key, item.lane) for item in answer.items]
        after = answer.last_seq
        if answer.end:
            break
    assert seen == [(at, f"k{seq}", "domain:a" if seq % 2 else "") for at, seq in enumerate(chosen)]
    odd = sum(seq % 2 for seq in chosen)
    assert sorted(await lanes_of(planner, derived.plan_id)) == [("", len(chosen) - odd, 1), ("domain:a", odd, 0)]
    assert (await derive(planner, plan.plan_id, chosen)).plan_id == derived.plan_id, "however it was cut"
    assert (await derive(planner, plan.plan_id, chosen[1:])).plan_id != derived.plan_id
    again = await derive(planner, derived.plan_id, [5])
    assert [item.key for item in (await planner.read(again.plan_id)).items] == [f"k{chosen[5]}"]


async def test_who_derived_a_plan_is_told_and_not_who_made_the_other(planner: Planner) -> None:
    source = await planner.items(plain_lines(5))
    plan = await planner.plan(source.source_id, stages=NOOP, actor="ann")
    derived = await derive(planner, plan.plan_id, [1, 2], actor="bob")
    assert (plan.actor, derived.actor) == ("ann", "bob")
    with calling():
        told = await planner.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=derived.plan_id))
        by_bob = await planner.stub.ListPlans(planner_pb2.ListPlansRequest(actor="bob"))
        copied = await planner.stub.CopyPlan(
            planner_pb2.CopyPlanRequest(
                plan_id=plan.plan_id, changes=planner_pb2.StageSpec(concurrency=3), actor="cleo"
            )
        )
    assert told.actor == "bob"
    assert [one.plan_id for one in by_bob.plans] == [derived.plan_id]
    assert copied.actor == "cleo"


async def test_later_stages_follow_as_they_are(planner: Planner) -> None:
    documents = await planner.files([(f"{i}.txt", b"x%d" % i) for i in range(5)])
    plan = await planner.plan(documents.source_id)
    derived = await derive(planner, plan.plan_id, [1, 4])
    assert [stage.processor for stage in derived.stages] == ["document", "collection"]
    assert derived.granularity == plan.granularity
    assert [item.key for item in (await planner.read(derived.plan_id)).items] == ["1.txt", "4.txt"]
    assert (await planner.read(derived.plan_id, stage=1)).items == (await planner.read(plan.plan_id, stage=1)).items
    with pytest.raises(InvalidInput, match="works on what the stage before it found"):
        await derive(planner, plan.plan_id, [0], stage=1)


async def test_large_items_are_read_in_parts(planner: Planner) -> None:
    source = await planner.items(plain_lines(40, size=1_000_000))
    plan = await planner.plan(source.source_id, stages=NOOP)
    derived = await derive(planner, plan.plan_id, range(1, 40))
    answer = await planner.read(derived.plan_id, limit=40)
    assert 10 < len(answer.items) < 20
    rest = await planner.read(derived.plan_id, after_seq=answer.last_seq, limit=40)
    assert rest.items[0].key == f"k{answer.last_seq + 2}"


async def test_a_choice_that_is_none_is_refused(planner: Planner) -> None:
    source = await planner.items(plain_lines(5))
    plan = await planner.plan(source.source_id, stages=NOOP)
    with pytest.raises(InvalidInput, match="no item was named"):
        await derive(planner, plan.plan_id)
    with pytest.raises(InvalidInput, match="3 comes after 3"):
        await derive(planner, plan.plan_id, [2, 3], [3])
    with pytest.raises(NotFound, match="has no item 5: it has 5"):
        await derive(planner, plan.plan_id, [4, 5])
    with pytest.raises(NotFound, match="has no stage 1"):
        await derive(planner, plan.plan_id, [0], stage=1)
    with pytest.raises(NotFound, match="no plan 'plan-x'"):
        await derive(planner, "plan-x", [0])
    with pytest.raises(InvalidInput, match="begins with a header"), calling():
        await planner.stub.DerivePlan(iter([Request(seqs=Request.Seqs(seqs=[1]))]))
    assert not [name for name in planner.left_behind() if "seqs" in name]


async def test_the_same_request_is_the_same_plan(planner: Planner) -> None:
    source = await planner.items(plain_lines(5))
    plan = await planner.plan(source.source_id, stages=NOOP)
    one = await derive(planner, plan.plan_id, [0, 1], request_id="r1")
    assert (await derive(planner, plan.plan_id, [0, 1], request_id="r1")).plan_id == one.plan_id
    with pytest.raises(AlreadyExists, match="r1"):
        await derive(planner, plan.plan_id, [0, 2], request_id="r1")
