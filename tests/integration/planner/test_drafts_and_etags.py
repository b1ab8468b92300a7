"""Drafts at their end, and many who name one plan at once."""

from __future__ import annotations

import asyncio

import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, InvalidInput, NotFound, PenstockError
from penstock.runtime.settings import load
from penstock.v1 import planner_pb2
from penstock.v1 import sources_pb2 as sp
from tests.integration.planner.conftest import Planner
from tests.integration.planner.planned import rows

DAY_SECONDS = 24 * 3600.0
NOOP = [planner_pb2.StageSpec(processor="noop")]
AGAIN = sp.Selection(filter="price > 10", again=True)  # so nobody need know a scheduler
Part = planner_pb2.CreateSourceRequest


async def catalog(planner: Planner, data: bytes, name: str = "mice") -> planner_pb2.Source:
    header = Part.Header(kind=planner_pb2.SOURCE_KIND_CATALOG, name=name)
    return await planner.send([Part(header=header), Part(file=Part.File(name="a.jsonl")), Part(chunk=data)])


async def draft(planner: Planner) -> planner_pb2.Plan:
    return await planner.plan("mice", stages=NOOP, selection=AGAIN, validate_only=True)


async def refusal(call: object) -> str:
    with pytest.raises(PenstockError) as told, calling():
        await call  # type: ignore[misc]
    assert isinstance(told.value, NotFound), told.value
    return told.value.code


async def test_a_draft_past_its_end_is_gone_for_all_who_page_sample_start_or_name_it(planner: Planner) -> None:
    await catalog(planner, rows())
    plan = await draft(planner)
    stub, plan_id = planner.stub, plan.plan_id
    planner.clock.advance(DAY_SECONDS - 1)
    assert len((await planner.read(plan_id)).items) == plan.item_count
    sample = await stub.SamplePlan(planner_pb2.SamplePlanRequest(plan_id=plan_id, size=3))
    planner.clock.advance(2)
    for call in (
        stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan_id)),
        stub.KeepPlan(planner_pb2.KeepPlanRequest(plan_id=plan_id, confirm=True)),
        stub.ReadPlanRows(planner_pb2.ReadPlanRowsRequest(plan_id=plan_id)),
        stub.SamplePlan(planner_pb2.SamplePlanRequest(plan_id=plan_id, size=3)),
        stub.UpdatePlan(planner_pb2.UpdatePlanRequest(plan_id=plan_id, name="mine")),
        stub.CopyPlan(planner_pb2.CopyPlanRequest(plan_id=plan_id)),
        stub.ComparePlans(planner_pb2.ComparePlansRequest(plan_id=sample.plan_id, other_plan_id=plan_id)),
    ):
        assert await refusal(call) == "plan_not_found"
    kept = await planner.keep(sample.plan_id)
    assert not kept.draft, "a sample has a day of its own"
    planner.clock.advance(DAY_SECONDS)
    assert len((await planner.read(sample.plan_id)).items) == 3
    again = await draft(planner)
    assert (again.plan_id, again.name) == (plan_id, "")
    assert len((await planner.read(plan_id)).items) == plan.item_count


async def test_starting_a_draft_in_its_last_moment_and_sweeping_it_never_leave_half_of_it(planner: Planner) -> None:
    await catalog(planner, rows())
    sweep = planner.service.loops["sweep"]
    for turn in range(6):
        plan = await draft(planner)
        planner.clock.advance(DAY_SECONDS - 1)

        async def swept(making: bool = turn % 2 == 1) -> None:
            planner.clock.advance(2)
            task = asyncio.ensure_future(sweep())
            await asyncio.sleep(0)
            for _ in range(20):
                await draft(planner) if making else await asyncio.sleep(0.005)
            task.cancel()

        found = await asyncio.gather(planner.keep(plan.plan_id), swept(), return_exceptions=True)
        assert not found[1]
        if isinstance(found[0], planner_pb2.Plan):
            assert not found[0].draft
            planner.clock.advance(DAY_SECONDS * 2)
            assert len((await planner.read(plan.plan_id)).items) == plan.item_count
            return
        assert isinstance(found[0], NotFound)


async def test_of_many_who_name_a_plan_with_one_etag_one_does(planner: Planner) -> None:
    await catalog(planner, rows())
    plan = await planner.plan("mice", stages=NOOP, selection=AGAIN)
    for _ in range(5):
        etag = (await planner.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan.plan_id))).etag

        async def named(name: str, etag: str = etag) -> planner_pb2.Plan:
            with calling():
                return await planner.stub.UpdatePlan(
                    planner_pb2.UpdatePlanRequest(plan_id=plan.plan_id, name=name, etag=etag)
                )

        found = await asyncio.gather(*(named(f"name {n}") for n in range(12)), return_exceptions=True)
        (won,) = [one for one in found if isinstance(one, planner_pb2.Plan)]
        lost = [one for one in found if isinstance(one, Conflict)]
        assert [len(lost), {one.code for one in lost}] == [11, {"etag_mismatch"}], found
        assert all(won.name in one.message for one in lost), "with the name that it has got"
        kept = await planner.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan.plan_id))
        assert (kept.name, kept.etag) == (won.name, won.etag)


async def test_uploads_of_one_name_at_once_are_its_versions_or_are_refused(planner: Planner) -> None:
    data = [rows({"acer-1": 1_000 + number}) for number in range(6)]
    found = await asyncio.gather(*(catalog(planner, one) for one in data), return_exceptions=True)
    kept = [one for one in found if isinstance(one, planner_pb2.Source)]
    refused = [one for one in found if isinstance(one, Conflict)]
    assert len(kept) + len(refused) == 6, found
    assert sorted(one.version for one in kept) == list(range(1, len(kept) + 1))
    assert {one.code for one in refused} <= {"source_moved"}
    assert all("send it again" in one.message for one in refused)
    assert (await catalog(planner, rows({"acer-1": 7}))).version == len(kept) + 1


@pytest.mark.parametrize("hours", ["inf", "1e300", "1e-9", "nan", "0", "-1"])
def test_hours_of_drafts_that_no_clock_can_say_are_refused_at_the_start(hours: str) -> None:
    with pytest.raises(InvalidInput, match=r"planner.draft_hours"):
        load({"PENSTOCK_PLANNER__DRAFT_HOURS": hours})
