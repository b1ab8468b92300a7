"""Drafts at their end, and many who name one plan, or send one source, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, InvalidInput, NotFound, PenstockError
from penstock.runtime.settings import load
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2
from penstock.v1 import sources_pb2 as sp
from planner.naming import NamedSources, Version
from planner.removals.dropped_files import DroppedFiles
from planner.removals.rows import RemovalRows
from planner.store import PlanRow, Store
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
        stub.DeletePlan(planner_pb2.DeletePlanRequest(plan_id=plan_id)),
        stub.SamplePlan(planner_pb2.SamplePlanRequest(plan_id=plan_id, size=3)),
        stub.UpdatePlan(planner_pb2.UpdatePlanRequest(plan_id=plan_id, name="mine")),
        stub.CopyPlan(planner_pb2.CopyPlanRequest(plan_id=plan_id)),
        stub.ComparePlans(planner_pb2.ComparePlansRequest(plan_id=sample.plan_id, other_plan_id=plan_id)),
    ):
        assert await refusal(call) == "plan_not_found"
    planner.clock.advance(60)  # so long who has read of it a moment ago reads on
    for reading in (
        stub.ReadPlanItems(planner_pb2.ReadPlanItemsRequest(plan_id=plan_id, after_seq=-1, limit=1)),
        stub.ListPlanLanes(planner_pb2.ListPlanLanesRequest(plan_id=plan_id)),
    ):
        assert await refusal(reading) == "plan_not_found"
    kept = await planner.keep(sample.plan_id)
    assert not kept.draft, "a sample has a day of its own"
    planner.clock.advance(DAY_SECONDS)
    assert len((await planner.read(sample.plan_id)).items) == 3
    again = await draft(planner)
    assert (again.plan_id, again.name) == (plan_id, "")
    assert len((await planner.read(plan_id)).items) == plan.item_count


@pytest.fixture
def sweep(planner: Planner, database_url: str) -> Iterator[Callable[[], int]]:
    """Removes drafts that are past their end now; how many."""
    database = Database(database_url, "planner")
    removals = RemovalRows(database, DroppedFiles(database, BlobStore(planner.blobs), planner.clock))
    yield lambda: removals.sweep_drafts(now_ms=planner.clock.now_ms())
    database.close()


async def test_a_draft_that_is_swept_while_it_is_started_is_not_started(
    planner: Planner, sweep: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    await catalog(planner, rows())
    plan = await draft(planner)
    planner.clock.advance(DAY_SECONDS - 1)
    keep = Store.keep_draft

    def late(self: Store, plan_id: str, *, now_ms: int) -> PlanRow:
        planner.clock.advance(2)
        assert sweep() == 1
        return keep(self, plan_id, now_ms=now_ms)

    monkeypatch.setattr(Store, "keep_draft", late)
    assert await refusal(planner.keep(plan.plan_id)) == "plan_not_found"
    monkeypatch.undo()
    assert await refusal(planner.keep(plan.plan_id)) == "plan_not_found"
    again = await draft(planner)
    assert (again.plan_id, again.uid != plan.uid) == (plan.plan_id, True)
    assert len((await planner.read(plan.plan_id)).items) == plan.item_count


async def test_a_draft_that_is_started_before_it_is_swept_is_kept(
    planner: Planner, sweep: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    await catalog(planner, rows())
    plan = await draft(planner)
    planner.clock.advance(DAY_SECONDS - 1)
    keep = Store.keep_draft

    def early(self: Store, plan_id: str, *, now_ms: int) -> PlanRow:
        kept = keep(self, plan_id, now_ms=now_ms)
        planner.clock.advance(2)
        assert sweep() == 0
        return kept

    monkeypatch.setattr(Store, "keep_draft", early)
    kept = await planner.keep(plan.plan_id)
    assert (kept.draft, kept.uid) == (False, plan.uid)
    planner.clock.advance(DAY_SECONDS * 2)
    assert sweep() == 0
    assert len((await planner.read(plan.plan_id)).items) == plan.item_count


@pytest.mark.parametrize("swept_first", [True, False])
async def test_a_draft_that_is_made_again_while_it_is_swept_is_whole_and_lasts_anew(
    planner: Planner, sweep: Callable[[], int], monkeypatch: pytest.MonkeyPatch, swept_first: bool
) -> None:
    await catalog(planner, rows())
    plan = await draft(planner)
    planner.clock.advance(DAY_SECONDS + 1)
    keep, swept = Store.keep_plan, list[int]()

    def kept(self: Store, row: PlanRow, **more: Any) -> PlanRow:
        if swept_first:
            swept.append(sweep())
        answer = keep(self, row, **more)
        if not swept_first:
            swept.append(sweep())
        return answer

    monkeypatch.setattr(Store, "keep_plan", kept)
    again = await draft(planner)
    assert (again.plan_id, swept) == (plan.plan_id, [int(swept_first)])
    planner.clock.advance(DAY_SECONDS - 1)
    assert sweep() == 0
    assert len((await planner.read(plan.plan_id)).items) == plan.item_count


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


async def test_an_upload_that_another_one_overtook_is_refused_and_may_be_sent_again(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await catalog(planner, rows())
    other = await catalog(planner, rows({"acer-1": 999}), name="other")
    overtake(monkeypatch, other.source_id)
    mine = rows({"acer-1": 1_000})
    with pytest.raises(Conflict, match="send it again") as moved:
        await catalog(planner, mine)
    assert moved.value.code == "source_moved"
    assert [one.version for one in await versions(planner)] == [2, 1]
    assert (await catalog(planner, mine)).version == 3


async def test_an_upload_that_the_same_one_overtook_is_its_version(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await catalog(planner, rows())
    same = rows({"acer-1": 999})
    other = await catalog(planner, same, name="other")
    overtake(monkeypatch, other.source_id)
    assert (await catalog(planner, same)).version == 2
    assert [one.version for one in await versions(planner)] == [2, 1]


def overtake(monkeypatch: pytest.MonkeyPatch, source_id: str) -> None:
    """The next version of a name that is added finds that another planner has just added this one."""
    add = NamedSources.add

    def overtaken(self: NamedSources, name: str, kind: int, own_id: str, **more: Any) -> Version:
        monkeypatch.setattr(NamedSources, "add", add)
        add(self, name, kind, source_id, **more)
        return add(self, name, kind, own_id, **more)

    monkeypatch.setattr(NamedSources, "add", overtaken)


async def versions(planner: Planner) -> list[planner_pb2.Source]:
    answer = await planner.stub.ListSourceVersions(planner_pb2.ListSourceVersionsRequest(name="mice"))
    return list(answer.sources)


async def test_uploads_of_one_name_at_once_are_its_versions_or_are_refused(planner: Planner) -> None:
    data = [rows({"acer-1": 1_000 + number}) for number in range(6)]
    found = await asyncio.gather(*(catalog(planner, one) for one in data), return_exceptions=True)
    kept = [one for one in found if isinstance(one, planner_pb2.Source)]
    refused = [one for one in found if isinstance(one, Conflict)]
    assert kept, found
    assert len(kept) + len(refused) == 6, found
    told = {one.version: one.source_id for one in kept}
    assert told == {one.version: one.source_id for one in await versions(planner)}
    assert sorted(told) == list(range(1, len(kept) + 1))
    assert {one.code for one in refused} <= {"source_moved"}
    assert (await catalog(planner, rows({"acer-1": 7}))).version == len(kept) + 1


@pytest.mark.parametrize("hours", ["inf", "1e300", "1e-9", "nan", "0", "-1"])
def test_hours_of_drafts_that_no_clock_can_say_are_refused_at_the_start(hours: str) -> None:
    with pytest.raises(InvalidInput, match=r"planner.draft_hours"):
        load({"PENSTOCK_PLANNER__DRAFT_HOURS": hours})
